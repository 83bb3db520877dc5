#include "node/image_retirement.hpp"

#include "base/durable_file.hpp"
#include "node/symbolizer.hpp"
#include "server/failure.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

namespace molt::node {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using loader::evidence;

constexpr auto settle_time = 300ms;  // after an image came: another may follow
constexpr auto tick_time = 50ms;
constexpr auto between_looks = 1000ms;
constexpr auto between_looks_of_one = 200ms;  // more with each
constexpr auto after_busy = 300ms;
constexpr unsigned after_failure_doublings = 8;  // 77 s
constexpr auto look_time_limit = 60s;
constexpr std::size_t frames_told = 6;

/// Async-signal-safe.
std::uint64_t running_server() noexcept {
  std::uint64_t innermost = 0;
  servers::visit_running(
      [](const servers::running_server& found, void* to) { *static_cast<std::uint64_t*>(to) = found.ref.bits; },
      &innermost, 1);
  return innermost;
}

/// The process that debugs this one; 0: none.
int debugger() {
  std::ifstream status{"/proc/self/status"};
  constexpr std::string_view key = "TracerPid:";
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key)) return std::atoi(line.c_str() + key.size());  // NOLINT: the kernel's own number
  return 0;
}

std::string name_of(servers::runtime& runtime, molt_ref server) {
  const auto found = runtime.status(server);
  if (!found) return "a server that has ended";
  return found->info.name.empty() ? found->info.type + " " + std::to_string(server.bits) : found->info.name;
}

/// What the copy knows of servers' states.
loader::memory_facts facts_of(servers::runtime& runtime, const servers::runtime::rest_guard& rest) {
  loader::memory_facts facts;
  facts.forget_free = [&rest] { servers::runtime::overwrite_free_envelopes(rest); };
  facts.owned = [&runtime, &rest] {
    std::vector<loader::owned_memory> states;
    runtime.for_each(rest, 0, 1, [&](servers::resting_server& each) {
      if (each.state() != nullptr)
        states.push_back(
            {reinterpret_cast<std::uintptr_t>(each.state()), each.type().abi().state->size, each.ref().bits});
    });
    return states;
  };
  facts.name = [&runtime, &rest](std::uint64_t owner) {
    std::string name;
    (void)runtime.visit(rest, molt_ref{owner}, [&](servers::resting_server& each) {
      name = each.name();
      if (name.empty()) name = std::string{each.type().name()} + " " + std::to_string(owner);
    });
    return name;
  };
  return facts;
}

}  // namespace

std::string_view to_string(image_state state) noexcept {
  switch (state) {
    case image_state::loading:
      return "loading";
    case image_state::current:
      return "current";
    case image_state::draining:
      return "draining";
    case image_state::tripwire:
      return "tripwire";
    case image_state::kept:
      return "kept by evidence";
    case image_state::gone:
      return "gone";
  }
  return "gone";
}

image_retirement::image_retirement(surroundings with) : with_{std::move(with)} {
  loader::set_trip_witness(&running_server);
  thread_ = std::thread{[this] { run(); }};
}

image_retirement::~image_retirement() {
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
  for (auto& each : items_)
    if (each.image != nullptr) (void)loader::keep(each.image, "nobody has found out who points into it");
}

void image_retirement::set(const image_settings& settings) {
  const std::lock_guard lock{mutex_};
  settings_ = settings;
  changed_.notify_all();
}

loader::unload_report image_retirement::retire(loader::lease last) {
  loader::unload_report report{last->name() + " " + last->version(), last->build_id(), false, false,
                               loader::cannot_close_because(*last)};
  const std::lock_guard lock{mutex_};
  if (report.why.empty() && settings_.keep) report.why = "keep_images is set";
  // Gone and loaded again; or still here, wanted for a while, and wanted no more.
  std::erase_if(items_,
                [&](const item& each) { return each.image == nullptr && each.told.build_id == report.build_id; });
  auto of = find(last.get());
  if (of == items_.end()) {
    items_.push_back(
        {nullptr, {report.plugin, report.build_id, last->range().size(), image_state::draining, {}, {}}, {}});
    of = std::prev(items_.end());
    of->image = std::move(last);
  }
  last.reset();
  if (!report.why.empty()) {
    of->told.state = image_state::kept;
    of->told.why = report.why;
  } else {
    begin_again(*of);
    report.retiring = true;
    report.why = "who points into it is being looked for: molt images";
  }
  const auto over = [&] {
    return std::find_if(items_.begin(), items_.end(), [](const item& each) { return each.image == nullptr; });
  };
  while (items_.size() > gone_images_max && over() != items_.end()) items_.erase(over());
  count_kept();
  changed_.notify_all();
  return report;
}

void image_retirement::begin_again(item& each) {
  each.told.state = image_state::draining;
  each.told.why = "it is about to be looked at";
  each.told.holders.clear();
  each.looks = 0;
  each.look_again = false;
  ++each.times;
  came_ = clock::now();
  each.due = came_ + settle_time;
}

void image_retirement::count_kept() {
  kept_.store(static_cast<std::size_t>(std::count_if(
                  items_.begin(), items_.end(), [](const item& each) { return each.told.state == image_state::kept; })),
              std::memory_order_relaxed);
}

std::vector<retired_image> image_retirement::list() const {
  const std::lock_guard lock{mutex_};
  std::vector<retired_image> all;
  for (const auto& each : items_) all.push_back(each.told);
  return all;
}

last_look image_retirement::looked() const {
  const std::lock_guard lock{mutex_};
  return looked_;
}

bool image_retirement::anything_to_do() const {
  return std::any_of(items_.begin(), items_.end(), [](const item& each) {
    return each.told.state == image_state::draining || each.told.state == image_state::tripwire;
  });
}

bool image_retirement::settle(std::chrono::milliseconds patience) const {
  std::unique_lock lock{mutex_};
  return changed_.wait_for(lock, patience, [this] { return !anything_to_do(); });
}

// ---- The thread

void image_retirement::run() {
  std::unique_lock lock{mutex_};
  while (!stopping_) {
    if (anything_to_do())
      changed_.wait_for(lock, tick_time);
    else
      changed_.wait(lock);
    if (!stopping_) tick(lock);
  }
}

void image_retirement::tick(std::unique_lock<std::mutex>& lock) {
  let_go_of_wanted();
  watch_tripwires(lock);
  look(lock);
  count_kept();
  if (!anything_to_do()) changed_.notify_all();
}

void image_retirement::let_go_of_wanted() {
  if (!with_.is_wanted) return;
  // A release that has loaded it shares the lease: this one is not the last.
  std::erase_if(items_, [this](const item& each) {
    return each.image != nullptr && each.image.use_count() > 1 && with_.is_wanted(*each.image);
  });
}

image_retirement::place image_retirement::find(const loader::plugin_image* image) {
  return std::find_if(items_.begin(), items_.end(), [image](const item& each) { return each.image.get() == image; });
}

void image_retirement::keep(item& each, std::string why) {
  with_.log(MOLT_LOG_WARNING, each.told.plugin + " stays mapped: " + why);
  each.told.state = image_state::kept;
  each.told.why = std::move(why);
}

void image_retirement::put_off(item& each, std::string why, std::chrono::milliseconds time) {
  each.told.why = std::move(why);
  each.due = clock::now() + time;
}

void image_retirement::watch_tripwires(std::unique_lock<std::mutex>& lock) {
  std::vector<const loader::plugin_image*> armed;
  for (const auto& each : items_)
    if (each.told.state == image_state::tripwire && each.image != nullptr) armed.push_back(each.image.get());
  for (const auto* const image : armed) {  // this thread alone lets go of them
    const auto each = find(image);
    if (each == items_.end()) continue;
    if (const auto seen = loader::tripped(each->image)) {
      lock.unlock();
      std::string why = describe(*image, *seen);
      lock.lock();
      const auto again = find(image);  // unless it came again meanwhile
      if (again != items_.end() && again->told.state == image_state::tripwire) keep(*again, std::move(why));
    } else if (clock::now() >= each->due) {
      if (const int by = debugger(); by != 0) {
        put_off(*each, "the debugger " + std::to_string(by) + " is attached", between_looks);
        continue;
      }
      lock.unlock();
      archive(*image);
      lock.lock();
      const auto again = find(image);
      if (again != items_.end() && again->told.state == image_state::tripwire) unmap(*again);
    }
  }
}

std::string image_retirement::describe(const loader::plugin_image& image, const loader::trip& seen) const {
  std::string made = "it was used while it was unreadable, by ";
  made += seen.server != 0 ? "the server " + name_of(with_.runtime, molt_ref{seen.server})
                           : "thread " + std::to_string(seen.thread);
  made += ", at " + image.name_of(~seen.inverted_address);
  symbolizer symbols{images_of_this_process(), {}};
  for (std::size_t i = 0; i < std::min(seen.frames, frames_told); ++i) {
    const auto address = ~seen.inverted_frame[i];
    const auto place = symbols.place(address, i != 0);
    std::string name = image.contains(reinterpret_cast<const void*>(address)) ? image.name_of(address) : place.symbol;
    if (name.empty()) name = place.image.substr(place.image.rfind('/') + 1);
    made += (i == 0 ? "; there ran " : ", called by ") + name;
  }
  return made;
}

void image_retirement::unmap(item& each) {
  const auto done = loader::unload_untouched(each.image);
  if (!done) {
    if (!loader::tripped(each.image)) begin_again(each);  // it was loaded: by a release, or by one that was refused
    return;                                               // touched just now: told at the next tick
  }
  if (!done->unmapped) return keep(each, done->why);
  each.told.state = image_state::gone;
  each.told.why.clear();
  each.told.holders.clear();
  with_.log(MOLT_LOG_INFO, each.told.plugin + " is unmapped");
}

// ---- Looking

void image_retirement::look(std::unique_lock<std::mutex>& lock) {
  const auto now = clock::now();
  const auto is_due = [&](const item& each) {
    return each.told.state == image_state::draining && each.image != nullptr && now >= each.due;
  };
  if (now < came_ + settle_time || std::none_of(items_.begin(), items_.end(), is_due)) return;
  std::vector<loader::lease> images;
  std::vector<unsigned> times;
  for (const auto& each : items_) {
    if (images.size() == loader::evidence_images_max) break;
    if (!is_due(each) && !(each.look_again && each.told.state == image_state::kept)) continue;
    images.push_back(each.image);
    times.push_back(each.times);
  }
  const auto put_all_off = [&](const std::string& why, std::chrono::milliseconds time) {
    for (const auto& image : images)
      if (const auto of = find(image.get()); of != items_.end() && of->told.state == image_state::draining)
        put_off(*of, why, time);
  };
  if (const int by = debugger(); by != 0)
    return put_all_off("the debugger " + std::to_string(by) + " is attached", between_looks);
  last_look looked = looked_;
  const auto rest = std::min(1ms * (1 << std::min(failures_, 10U)), image_rest_max);
  lock.unlock();
  const auto report = look_at(images, rest, looked);
  lock.lock();
  if (!report) {
    const bool is_busy = report.error().why() == reason::busy;
    const auto time = is_busy ? after_busy : after_busy * (1U << std::min(failures_, after_failure_doublings));
    if (!is_busy) ++failures_;
    return put_all_off("not looked at yet: " + report.error().text(), time);
  }
  failures_ = 0;
  looked_ = looked;
  for (std::size_t i = 0; i < images.size(); ++i) {
    const auto of = find(images[i].get());
    images[i].reset();
    if (of == items_.end() || of->times != times[i]) continue;  // it came again: what was seen is of before
    if (of->image.use_count() == 1)
      judge(*of, report->images[i]);
    else if (of->told.state == image_state::draining)
      put_off(*of, "it has other leases", between_looks);
  }
}

result<loader::evidence_report> image_retirement::look_at(std::span<const loader::lease> images,
                                                          std::chrono::milliseconds rest, last_look& looked) const {
  const auto make = [&](const auto& before, const auto& work) { return make_copy(rest, looked, before, work); };
  MOLT_TRY(auto report, loader::look_for_holders(images, make, look_time_limit, [this] { return stopping_.load(); }));
  looked.scan = report.scan;
  looked.scanned_bytes = report.scanned_bytes;
  looked.images = images.size();
  ++looked.looks;
  return report;
}

result<pid_t> image_retirement::make_copy(std::chrono::milliseconds patience, last_look& looked,
                                          const std::function<void()>& before,
                                          const std::function<void(const loader::memory_facts&)>& work) const {
  const std::unique_lock turn{with_.turn, std::try_to_lock};
  if (!turn) return error{reason::busy, "an upgrade or rehearsal runs"};
  const auto loading = loader::hold_images();  // before the rest: a constructor may take its time
  const auto asked = clock::now();
  MOLT_TRY(const auto rest, with_.runtime.rest(patience));
  before();
  const auto begun = clock::now();
  const pid_t made = with_.runtime.fork_at_rest(rest);
  const int failed = errno;
  if (made == 0) work(facts_of(with_.runtime, rest));
  looked.fork = clock::now() - begun;
  looked.at_rest = clock::now() - asked;
  if (made < 0)
    return error{reason::io, std::string{"the process cannot be copied: "} +
                                 std::strerror(failed)};  // NOLINT(concurrency-mt-unsafe): glibc's is
  return made;
}

void image_retirement::judge(item& each, const loader::image_evidence& found) {
  each.told.holders.clear();
  for (const auto& holder : found.holders) each.told.holders.push_back(holder.text());
  ++each.looks;
  // What only stacks hold, or bytes of memory that nobody uses, may be gone the next time.
  const bool for_good = found.found == evidence::not_unmapped || each.look_again;
  if (found.found == evidence::none) {
    if (const auto armed = loader::arm_tripwire(each.image); !armed)
      return put_off(each, armed.error().text(), between_looks);
    each.told.state = image_state::tripwire;
    each.told.why = "nobody was found to point into it; it is unreadable for a while";
    each.due = clock::now() + settings_.tripwire;
  } else if (!for_good && each.looks < image_looks_max) {
    put_off(each, found.why, each.looks * between_looks_of_one);
  } else {
    each.look_again = true;
    if (each.told.state == image_state::kept)
      each.told.why = found.why;  // as before, and said before
    else
      keep(each, found.why);
  }
}

/// A copy by its build ID. That there is no room for it is no reason to keep the image.
void image_retirement::archive(const loader::plugin_image& image) const {
  if (with_.archive.empty()) return;
  std::error_code failed;
  fs::create_directories(with_.archive, failed);
  const auto file = with_.archive / (image.build_id() + ".so");
  if (!fs::exists(file, failed)) {
    const auto bytes = image.file();
    const auto written =
        replace_file(file, std::string_view{reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (!written) with_.log(MOLT_LOG_WARNING, "a copy of the image for old stacks: " + written.error().text());
  }
  std::vector<std::pair<fs::file_time_type, fs::path>> all;
  std::uintmax_t bytes = 0;
  for (const auto& entry : fs::directory_iterator{with_.archive, failed}) {
    all.emplace_back(entry.last_write_time(failed), entry.path());
    bytes += entry.file_size(failed);
  }
  std::sort(all.begin(), all.end());
  for (std::size_t n = 0; n + 1 < all.size() && (all.size() - n > archived_images_max || bytes > archived_bytes_max);
       ++n) {
    bytes -= fs::file_size(all[n].second, failed);
    fs::remove(all[n].second, failed);
  }
}

}  // namespace molt::node
