#include "tools/moltd_daemon.hpp"

#include "node/api_error.hpp"
#include "node/fd_channel.hpp"
#include "node/http_client.hpp"
#include "node/json_codec.hpp"
#include "node/listening.hpp"
#include "node/request_lanes.hpp"
#include "releases/package.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include <boost/json.hpp>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <utility>

namespace molt::daemon {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr milliseconds status_timeout{500};       ///< the loop must not wait long for a node that hangs
constexpr milliseconds adopt_timeout{5000};
constexpr milliseconds ready_interval{10};
constexpr milliseconds resolve_interval{100};
constexpr milliseconds idle_interval{1000};
constexpr milliseconds back_off_first{100};
constexpr milliseconds back_off_most{2000};

struct node_answer {
  pid_t pid = -1;
  std::string release;
  bool changing = false;
  bool committed = false;
};

/// What /v1/status of molt-node says that matters here.
result<node_answer> parse_status(const node::http_response& response) {
  if (response.status != 200) return error{reason::unreachable, "the node answers with status " + std::to_string(response.status)};
  MOLT_TRY(const json::value value, node::parse_json(response.body));
  node_answer answer;
  try {
    answer.pid = value.at("node").at("pid").to_number<pid_t>();
    answer.release = value.at("release").at("current").as_string();
    const auto& upgrade = value.at("upgrade");
    answer.changing = upgrade.is_object() && !upgrade.get_object().contains("result");
    const auto* const committed = value.at("release").as_object().if_contains("committed");
    answer.committed = committed != nullptr && committed->is_bool() && committed->get_bool();
  } catch (const std::exception& odd) {
    return error{reason::corrupt, std::string{"the node's status makes no sense: "} + odd.what()};
  }
  return answer;
}

void log_end(const releases::past_transition& past) {
  spdlog::info("{} from {} to {}, begun by an earlier moltd: {}: {}", releases::to_string(past.kind), past.from,
               past.to, releases::to_string(past.outcome), past.detail);
}

result<node_answer> ask_status(const std::string& socket, milliseconds timeout) {
  MOLT_TRY(const auto response, node::request(socket, "GET", "/v1/status", "", timeout));
  return parse_status(response);
}

}  // namespace

std::string_view to_string(node_state state) noexcept {
  switch (state) {
    case node_state::down: return "down";
    case node_state::starting:
    case node_state::backing_off: return "starting";
    case node_state::running: return "running";
    case node_state::stopping: return "down";
  }
  return "";
}

daemon::daemon(options with, releases::store opened)
    : options_{std::move(with)},
      node_socket_{(options_.runtime_folder / "node.sock").string()},
      node_fd_socket_{(options_.runtime_folder / "node-fds.sock").string()},
      crashes_{options_.store_folder / "crashes"},
      wake_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)},
      store_{std::move(opened)} {}

daemon::~daemon() = default;

result<std::unique_ptr<daemon>> daemon::start(options with) {
  std::error_code failed;
  fs::create_directories(with.runtime_folder, failed);
  if (failed) return error{reason::io, "making " + with.runtime_folder.string() + ": " + failed.message()};
  MOLT_TRY(auto opened, releases::store::open(with.store_folder));
  std::unique_ptr<daemon> made{new daemon{std::move(with), std::move(opened)}};
  MOLT_CHECK(made->decide_what_to_run());
  daemon* self = made.get();
  MOLT_TRY(made->control_, node::http_server::listen((made->options_.runtime_folder / "control.sock").string(),
                                                     [self](const node::http_request& asked) { return self->answer(asked); },
                                                     node::control_api_options()));
  return made;
}

// -- What to run

result<void> daemon::decide_what_to_run() {
  MOLT_TRY(const bool adopted, adopt_running_node());
  if (adopted) return ok();
  {
    const lock held{mutex_};
    end_with_the_node(held, "no node was running when moltd started");
  }
  if (store_.boot_release().empty()) {
    if (options_.first_release.empty()) {
      spdlog::info("nothing is installed to run; molt install and molt upgrade start the first release");
      return ok();
    }
    return install_first_release();
  }
  return check_boot_release();
}

result<void> daemon::check_boot_release() {
  const auto release = store_.boot_release();
  lock held{mutex_};
  const auto place = place_of(held, release);
  held.unlock();
  if (auto whole = verify(place); !whole) {
    held.lock();
    note_attention(held, release + " is not started: " + whole.error().text());
    return ok();
  }
  wanted_ = true;
  return ok();
}

result<void> daemon::install_first_release() {
  const fs::path source = options_.first_release;
  std::error_code ignored;
  std::string id = options_.first_release;
  if (fs::exists(source, ignored)) {
    const bool is_folder = fs::is_directory(source, ignored);
    MOLT_TRY(const auto release, is_folder ? releases::read_manifest(source) : releases::read_package_manifest(source));
    id = release.id();
    if (!store_.find(id)) {
      MOLT_CHECK(store_.install(source));
      spdlog::info("installed {} from {}", id, source.string());
    }
  }
  MOLT_TRY(const auto release, store_.find(id));
  MOLT_CHECK(store_.begin_transition(releases::transition_kind::start, release.id));
  MOLT_CHECK(store_.begin_switch());
  cold_target_ = release.id;
  wanted_ = true;
  return ok();
}

result<bool> daemon::adopt_running_node() {
  const auto found = ask_status(node_socket_, std::chrono::seconds{5});
  if (!found) {
    if (found.error().why() == reason::unreachable) return false;
    if (found.error().why() == reason::invalid_argument) return found.error();  // the path
    // It answers, but not sense: starting a second node beside it would fail on the same sockets.
    return error{reason::busy, "something answers on " + node_socket_ + ", but not as molt-node does: " + found.error().message(),
                 "stop it, or use another --runtime"};
  }
  auto process = node_process::adopt(found->pid);
  // Asked again with its pidfd open: the pid cannot have become another process in between.
  if (!process || !ask_status(node_socket_, std::chrono::seconds{5})) return false;
  MOLT_TRY(const auto adoption, adopt_node());
  spdlog::info("adopted the running node, process {}, release {}", found->pid, found->release);
  const lock held{mutex_};
  adoption_ = adoption;
  process_.emplace(std::move(*process));
  state_ = node_state::running;
  wanted_ = true;
  adopted_mid_change_ = true;  // resolved by the loop, at once unless the node is in the middle of one
  return true;
}

/// The node refuses from here on what was asked of it before and has not begun: so its status tells all there is to know.
result<std::optional<std::uint64_t>> daemon::adopt_node() const {
  MOLT_TRY(const auto answered, ask_node("POST", "/v1/adopt", "{}", adopt_timeout));
  if (const auto failed = node::error_of(answered)) {
    if (failed->what.why() == reason::not_found) return std::optional<std::uint64_t>{};  // it does not know this yet
    return failed->what;
  }
  MOLT_TRY(const json::value value, node::parse_json(answered.body));
  const auto* const number = value.is_object() ? value.get_object().if_contains("adoption") : nullptr;
  if (number == nullptr || !number->is_number())
    return error{reason::corrupt, "the node's answer to its adoption makes no sense"};
  return std::optional{number->to_number<std::uint64_t>()};
}

/// Ends what an earlier moltd began, once the node is in the middle of nothing, and takes copies of its listening sockets.
void daemon::resolve_adopted() {
  const auto found = ask_status(node_socket_, status_timeout);
  if (!found || found->changing) return;
  auto sockets = node::get_fds(node_fd_socket_, std::chrono::seconds{2});
  const lock held{mutex_};
  if (!adopted_mid_change_ || state_ != node_state::running) return;
  const auto begun = store_.in_flight();
  if (auto resolved = settle_by(held, found->release); !resolved)
    spdlog::error("{}", resolved.error().text());
  else if (begun && !store_.history().empty())
    log_end(store_.history().back());
  commit_open_ = store_.in_probation();
  if (found->committed) (void)settle_commit(held, found->release);
  adopted_mid_change_ = false;
  changed_.notify_all();
  if (!sockets) {
    spdlog::warn("the node's listening sockets stay its own: {}", sockets.error().text());
    return;
  }
  const auto place = place_of(held, found->release);
  const auto installed = releases::read_installed(place.folder, place.contents);
  if (!installed) return;
  for (auto& socket : *sockets)
    for (const auto& listener : installed->release.listeners)
      if (listener.name == socket.name) listeners_[socket.name] = {listener.address, unique_fd{socket.fd.release()}};
}

/// While nobody knows what became of a commit.
void daemon::look_whether_committed() {
  const auto found = ask_status(node_socket_, status_timeout);
  const lock held{mutex_};
  if (!commit_open_) return;
  commit_open_ = store_.in_probation();
  if (found && found->committed) (void)settle_commit(held, found->release);
}

// -- The loop

void daemon::run(int signals) {
  std::uint64_t watchdog_us = 0;
  const bool watched = ::sd_watchdog_enabled(0, &watchdog_us) > 0;
  {
    const lock held{mutex_};
    if (!wanted_ || state_ == node_state::running)  // otherwise once the node serves, or cannot be started
      ::sd_notifyf(0, "READY=1\nSTATUS=%s", wanted_ ? "adopted the running node" : "waits for a release: molt status");
  }
  while (true) {
    int pidfd = -1;
    {
      const lock held{mutex_};
      if (process_) pidfd = process_->pidfd();
      else if (state_ == node_state::stopping) return;
    }
    auto wait = next_tick();
    if (watched) wait = std::min(wait, std::chrono::duration_cast<milliseconds>(std::chrono::microseconds{watchdog_us / 3}));
    std::array<pollfd, 3> events{{{signals, POLLIN, 0}, {wake_.get(), POLLIN, 0}, {pidfd, POLLIN, 0}}};
    (void)::poll(events.data(), events.size(), static_cast<int>(wait.count()));
    if (watched) ::sd_notify(0, "WATCHDOG=1");
    if (events[1].revents != 0) {
      eventfd_t ignored = 0;
      (void)::eventfd_read(wake_.get(), &ignored);
    }
    if (events[2].revents != 0) node_has_ended();
    if (events[0].revents != 0) {
      begin_stop();
      signals = -1;  // once is enough; the deadline does the rest
    }
    tick();
    if (std::exchange(node_ended_, false)) take_crash_reports();  // the next one is started already
  }
}

milliseconds daemon::next_tick() const {
  const lock held{mutex_};
  const auto until = [](clock::time_point when) {
    return std::clamp(std::chrono::ceil<milliseconds>(when - clock::now()), milliseconds{0}, idle_interval);
  };
  const auto most = unwritten_.empty() ? idle_interval : until(retry_at_);
  switch (state_) {
    case node_state::starting: return std::min(most, ready_interval);
    case node_state::running: return std::min(most, adopted_mid_change_ ? resolve_interval : idle_interval);
    case node_state::down: return wanted_ ? milliseconds{0} : most;
    case node_state::backing_off:
    case node_state::stopping: break;
  }
  return std::min(most, until(deadline_));
}

void daemon::tick() {
  lock held{mutex_};
  if (!unwritten_.empty() && clock::now() >= retry_at_) (void)write_what_is_owed(held);
  const auto state = state_;
  const bool due = clock::now() >= deadline_;
  const bool resolve = adopted_mid_change_;
  const bool commit_open = commit_open_ && !resolve;
  const bool wanted = wanted_;
  held.unlock();
  if (state == node_state::down && wanted) spawn_node();
  if (state == node_state::backing_off && due) spawn_node();
  if (state == node_state::starting) look_whether_ready();
  if (state == node_state::running && resolve) resolve_adopted();
  if (state == node_state::running && commit_open) look_whether_committed();
  if (state == node_state::stopping && due) {
    held.lock();
    if (process_) process_->signal(SIGKILL);
  }
}

void daemon::spawn_node() {
  const lock held{mutex_};
  if (state_ == node_state::stopping || process_) return;
  const std::string release = cold_target_.empty() ? store_.boot_release() : cold_target_;
  if (release.empty()) {
    wanted_ = false;
    set_state(held, node_state::down);
    return;
  }
  if (auto spawned = try_spawn(held, release); !spawned) {
    spdlog::error("{}", spawned.error().text());
    give_up_or_back_off(held, spawned.error().text());
  }
}

result<void> daemon::try_spawn(const lock& held, const std::string& release) {
  MOLT_TRY(auto wanted, listeners_for(held, release));
  listeners_ = std::move(wanted);
  const auto place = place_of(held, release);
  node_process::command command{options_.node_program,   place.folder, place.contents,
                                options_.runtime_folder, {},           options_.node_arguments};
  command.more.insert(command.more.begin(), {"--crash-dir", crashes_.path().string()});
  for (const auto& [name, listener] : listeners_) command.listen_fds.emplace_back(name, listener.fd.get());
  MOLT_TRY(auto process, node_process::spawn(command));
  spdlog::info("started molt-node, process {}, on {}", process.pid(), release);
  process_.emplace(std::move(process));
  adoption_ = 0;
  deadline_ = clock::now() + options_.start_timeout;
  set_state(held, node_state::starting);
  return ok();
}

void daemon::look_whether_ready() {
  const auto found = ask_status(node_socket_, status_timeout);
  const lock held{mutex_};
  if (state_ != node_state::starting || !process_) return;
  if (!found || found->pid != process_->pid()) {
    if (clock::now() < deadline_) return;
    spdlog::error("molt-node is not ready after {} ms; it is killed", options_.start_timeout.count());
    process_->signal(SIGKILL);
    return;
  }
  if (!cold_target_.empty())
    (void)end_transition(held, releases::transition_outcome::done, "started without state to move");
  cold_target_.clear();
  if (!store_.attention().empty())  // a fresh node runs the whole release: nothing is left to decide
    (void)write_down(held, "that nothing is left to decide", [this] { return store_.set_attention({}); });
  set_state(held, node_state::running);
  spdlog::info("{} runs", found->release);
  ::sd_notifyf(0, "READY=1\nSTATUS=%s runs", found->release.c_str());
}

void daemon::node_has_ended() {
  const lock held{mutex_};
  if (!process_ || !process_->has_ended()) return;
  const std::string how = "molt-node " + process_->collect();
  node_ended_ = true;
  process_.reset();
  adopted_mid_change_ = false;
  if (state_ == node_state::stopping) {
    spdlog::info("{}", how);
    changed_.notify_all();
    return;  // what is in flight stays in the journal: the next moltd ends it
  }
  spdlog::error("{}", how);
  give_up_or_back_off(held, how);
}

/// The node is not there: whatever it was in the middle of has ended with it, and it is started again - soon, later or not.
void daemon::give_up_or_back_off(const lock& held, const std::string& why) {
  const bool first_start = store_.permanent().empty();
  end_with_the_node(held, why);
  cold_target_.clear();
  const auto now = clock::now();
  ends_.push_back(now);
  while (now - ends_.front() > options_.period) ends_.pop_front();
  if (first_start || ends_.size() > options_.intensity) {
    note_attention(held, first_start ? "the first release could not be started: " + why
                                     : "gave up after " + std::to_string(ends_.size()) + " ends of molt-node within " +
                                           std::to_string(options_.period.count()) + " ms; the last: " + why);
    ends_.clear();
    listeners_.clear();  // clients are refused at once, instead of waiting for an accept that does not come
    wanted_ = false;
    set_state(held, node_state::down);
    ::sd_notify(0, "READY=1\nSTATUS=needs attention: molt status");
    return;
  }
  // The first time at once: most ends do not repeat, and clients are waiting.
  milliseconds delay{0};
  if (ends_.size() > 1) delay = std::min(back_off_most, back_off_first * (1 << std::min<std::size_t>(ends_.size() - 2, 10)));
  ++restarts_;
  deadline_ = now + delay;
  set_state(held, node_state::backing_off);
}

void daemon::begin_stop() {
  const lock held{mutex_};
  spdlog::info("stopping");
  ::sd_notify(0, "STOPPING=1");
  wanted_ = false;
  listeners_.clear();  // the node closes its copies when it stops accepting
  deadline_ = clock::now() + options_.stop_timeout;
  if (process_) process_->signal(SIGTERM);
  set_state(held, node_state::stopping);
}

// -- Small things

void daemon::set_state(const lock& /*held*/, node_state next) {
  state_ = next;
  changed_.notify_all();
}

void daemon::note_attention(const lock& held, const std::string& text) {
  spdlog::error("needs attention: {}", text);
  (void)write_down(held, '"' + text + '"', [this, text] { return store_.set_attention(text); });
}

daemon::release_place daemon::place_of(const lock& /*held*/, const std::string& release) const {
  return {store_.folder_of(release), store_.contents_of(release)};
}

/// Hashes all files: not under the lock.
result<void> daemon::verify(const release_place& place) {
  return releases::verify_contents(place.folder, place.contents);
}

/// The node looks again: at the very bytes that it loads.
void daemon::name_release(json::object& body, const release_place& place) {
  body["release_dir"] = place.folder.string();
  if (!place.contents.empty()) body["contents"] = place.contents;
}

void daemon::wake() const noexcept { (void)::eventfd_write(wake_.get(), 1); }

/// The sockets of a release: those that are held already and fit, as copies, and new ones for the rest.
result<daemon::listeners> daemon::listeners_for(const lock& held, const std::string& release) const {
  const auto place = place_of(held, release);
  MOLT_TRY(const auto installed, releases::read_installed(place.folder, place.contents));
  listeners made;
  for (const auto& entry : installed.release.listeners) {
    const auto known = listeners_.find(entry.name);
    unique_fd fd;
    if (known != listeners_.end() && known->second.address == entry.address) {
      fd = unique_fd{::fcntl(known->second.fd.get(), F_DUPFD_CLOEXEC, 0)};
      if (!fd) return error{reason::io, "listener " + entry.name + ": no descriptor left"};
    } else {
      MOLT_TRY(auto opened, node::listen_tcp(entry.name, entry.address));
      fd = unique_fd{opened.release()};
    }
    made.emplace(entry.name, held_listener{entry.address, std::move(fd)});
  }
  return made;
}

}  // namespace molt::daemon
