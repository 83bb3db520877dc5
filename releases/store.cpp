#include "releases/store.hpp"

#include "base/assert.hpp"
#include "base/durable_file.hpp"
#include "base/unique_fd.hpp"
#include "loader/elf_image.hpp"
#include "loader/inspection.hpp"
#include "releases/package.hpp"
#include "releases/release_folder.hpp"
#include "releases/store_state.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <mutex>
#include <utility>

namespace molt::releases {
namespace {

namespace fs = std::filesystem;

[[nodiscard]] error step_failed(std::string_view what, const fs::path& file) {
  const int number = errno;
  return system_error(what, file, number);
}

/// A package may be made anywhere; what is installed must run here.
result<void> require_this_machine(const manifest& release, std::span<const loader::inspection> plugins) {
  for (std::size_t i = 0; i < plugins.size(); ++i)
    if (const auto& machine = plugins[i].machine; machine != loader::host_machine())
      return error{
          reason::incompatible,
          release.plugins[i].file + ": is for " + machine + ", this machine is " + std::string{loader::host_machine()},
          "install the release that was built for this machine"};
  return ok();
}

result<void> ensure_folder(const fs::path& folder, file_system& system) {
  if (system.make_folder(AT_FDCWD, folder.c_str(), 0755) == 0) return sync_folder(folder.parent_path(), system);
  if (errno != EEXIST) return step_failed("making the folder", folder);
  std::error_code failed;
  if (!fs::is_directory(folder, failed)) return error{reason::io, folder.string() + ": not a folder"};
  return ok();
}

/// The lock says who holds it, for the one who does not get it.
result<unique_fd> lock_store(const fs::path& folder) {
  const fs::path file = folder / "lock";
  unique_fd fd{::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644)};
  if (!fd) return step_failed("opening", file);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return step_failed("locking", file);
    const auto holder = read_file(file, 64);
    const auto pid = holder && !holder->empty() ? " by process " + holder->substr(0, holder->find('\n')) : "";
    return error{reason::busy, "the store " + folder.string() + " is in use" + pid,
                 "a moltd runs on it: ask that one through its control socket, or stop it"};
  }
  const std::string pid = std::to_string(::getpid()) + '\n';
  if (::ftruncate(fd.get(), 0) != 0 || ::pwrite(fd.get(), pid.data(), pid.size(), 0) < 0)
    return step_failed("writing", file);
  return fd;
}

[[nodiscard]] error already_installed(const std::string& id, bool same) {
  if (same) return error{reason::already_exists, id + " is installed already, and undamaged", "molt releases shows it"};
  return error{reason::already_exists, id + " is installed already, with other contents",
               "give the new one a version of its own, or molt remove " + id + " first"};
}

[[nodiscard]] bool has_entries(const fs::path& folder) {
  std::error_code failed;
  fs::directory_iterator entries{folder, failed};
  return !failed && entries != fs::directory_iterator{};
}

}  // namespace

class store::implementation {
 public:
  implementation(fs::path folder, file_system& system, unique_fd lock)
      : folder_{std::move(folder)}, system_{system}, lock_{std::move(lock)} {}

  result<void> load() {
    MOLT_CHECK(ensure_folder(releases_folder(), system_));
    auto text = read_file(file(), store_bytes_max);
    if (!text && text.error().why() == reason::not_found) {
      // Written before anything can be installed: so with releases there it was lost, and sweeping would lose them too.
      if (has_entries(releases_folder()))
        return error{reason::corrupt, file().string() + ": missing, but releases/ is not empty",
                     "restore store.json, or move releases/ away and install again"};
      return replace_file(file(), print_state(state_), 0644, system_);
    }
    if (!text) return std::move(text).error();
    auto state = parse_state(*text);
    if (!state) return std::move(state).error().with(file().string());
    state_ = std::move(*state);
    sweep();
    return ok();
  }

  /// Applies a change to a copy, makes it durable, then shows it.
  result<void> change(const std::function<result<void>(store_state&)>& how) {
    if (broken_) put_back();  // what failed then may go now
    if (broken_)
      return error{reason::io, file().string() + ": an earlier write failed half-way, and still cannot be undone",
                   "make room for it, or mend its disk, and try again"};
    store_state next = state_;
    MOLT_CHECK(how(next));
    const auto sound = next.check();
    MOLT_ASSERT(sound.has_value(), sound.error().text());
    auto written = replace_file(file(), print_state(next), 0644, system_);
    if (!written) {
      put_back();
      return written;
    }
    const std::lock_guard lock{replacing_};
    state_ = std::move(next);
    return ok();
  }

  result<staged_release> stage(const fs::path& source) const {
    if (const auto offer = look_at(source)) MOLT_CHECK(require_wanted(*offer));  // staging says what is wrong with it
    const fs::path staged = releases_folder() / ".new";
    MOLT_CHECK(remove_tree(staged, system_));
    auto done = stage_at(staged, source);
    if (!done) (void)remove_tree(staged, system_);  // what stays is swept at the next opening
    return done;
  }

  result<installed_release> admit(const staged_release& staged) {
    auto done = admit_by(staged);
    if (!done) (void)remove_tree(staged.folder, system_);
    return done;
  }

  result<void> remove(std::string_view id) {
    const std::string gone{id};
    const auto forget = [&] { return change([&](store_state& state) { return state.remove(gone); }); };
    auto forgotten = forget();
    // On a full disk the other way round, or nothing could ever be removed. A listed release without files is one that
    // is damaged: it is not run, and installing it again repairs it.
    const bool files_first = !forgotten && is_out_of_space(forgotten.error());
    if (!forgotten && !files_first) return forgotten;
    (void)remove_tree(folder_of(gone), system_);  // no longer known: what stays is swept at the next opening
    if (files_first) forgotten = forget();
    if (!forgotten)
      return error{forgotten.error().why(),
                   gone + "'s files are deleted, but it is listed still: " + forgotten.error().message(),
                   "make room on its file system, then molt remove " + gone + " again"};
    return ok();
  }

  [[nodiscard]] fs::path folder_of(std::string_view id) const { return releases_folder() / id; }
  [[nodiscard]] const store_state& state() const noexcept { return state_; }

 private:
  [[nodiscard]] fs::path file() const { return folder_ / "store.json"; }
  [[nodiscard]] fs::path releases_folder() const { return folder_ / "releases"; }

  result<staged_release> stage_at(const fs::path& staged, const fs::path& source) const {
    std::error_code failed;
    const bool is_folder = fs::is_directory(source, failed);
    MOLT_TRY(auto release, is_folder ? copy_release(source, staged, system_) : unpack(source, staged, system_));
    const auto check = [&]() -> result<void> {
      MOLT_TRY(const auto files, read_installed(staged));
      MOLT_TRY(const auto plugins, check_plugins(staged, release, files.plugins));
      MOLT_CHECK(require_this_machine(release, plugins));
      return check_versions(plugins, release, releases_folder());
    };
    if (const auto fine = check(); !fine) return without_folder(fine.error(), staged).with(source.string());
    return staged_release{std::move(release), staged, source, contents_digest(staged)};
  }

  /// Early, as staging is long; admit() looks again.
  result<void> require_wanted(const release_offer& offer) const {
    const auto id = offer.release.id();
    std::string contents;
    {
      const std::lock_guard lock{replacing_};
      if (const auto* const known = state_.find(id); known != nullptr) contents = known->contents;
    }
    const auto folder = folder_of(id);
    std::error_code failed;
    if (!fs::exists(folder, failed) || !verify_contents(folder, contents)) return ok();
    return already_installed(id, contents_digest(folder) == offer.contents);
  }

  result<installed_release> admit_by(const staged_release& staged) {
    const auto& release = staged.release;
    const std::string id = release.id();
    if (const auto* known = state_.find(id); known != nullptr) return repair(*known, staged);
    const fs::path target = folder_of(id);
    MOLT_CHECK(remove_tree(target, system_));
    if (system_.rename(AT_FDCWD, staged.folder.c_str(), AT_FDCWD, target.c_str()) != 0)
      return step_failed("renaming to", target);
    auto known = sync_folder(releases_folder(), system_);
    if (known)
      known = change([&](store_state& state) {
        return state.add({id, release.name, release.version, release_status::unpacked, {}, utc_now(), staged.contents});
      });
    if (!known) {
      if (!broken_) (void)remove_tree(target, system_);
      return std::move(known).error();
    }
    return installed_release{id, false};
  }

  /// The whole folder in one step, so that whoever opens a file of it meanwhile finds the damaged or the good one. A
  /// node that runs is not touched: it loads its plugins from copies in memory.
  result<installed_release> repair(const release_record& known, const staged_release& staged) {
    const fs::path target = folder_of(known.id);
    const auto before = known.contents.empty() ? contents_digest(target) : known.contents;
    if (staged.contents != before) return already_installed(known.id, false);
    std::error_code failed;
    if (!fs::exists(target, failed)) {
      if (system_.rename(AT_FDCWD, staged.folder.c_str(), AT_FDCWD, target.c_str()) != 0)
        return step_failed("renaming to", target);
    } else if (system_.exchange(staged.folder.c_str(), target.c_str()) != 0) {
      return step_failed("replacing", target);
    }
    MOLT_CHECK(sync_folder(releases_folder(), system_));
    (void)remove_tree(staged.folder, system_);  // the damaged one; what stays is swept at the next opening
    return installed_release{known.id, true};
  }

  /// After a write that failed the file holds the old state, or - if only the last step failed - the new one.
  void put_back() {
    const auto old = print_state(state_);
    const auto there = read_file(file(), store_bytes_max);
    broken_ = !(there && *there == old) && !replace_file(file(), old, 0644, system_);
  }

  void sweep() {
    std::error_code failed;
    std::vector<fs::path> debris;
    fs::directory_iterator entries{releases_folder(), failed};
    for (; !failed && entries != fs::directory_iterator{}; entries.increment(failed))
      if (state_.find(entries->path().filename().string()) == nullptr) debris.push_back(entries->path());
    for (const auto& path : debris) (void)remove_tree(path, system_);  // a next opening tries again
  }

  fs::path folder_;
  file_system& system_;
  unique_fd lock_;
  store_state state_;
  mutable std::mutex replacing_;  // held to replace state_, and to read it beside its one user: stage()
  bool broken_ = false;
};

store::store(std::unique_ptr<implementation> implementation) noexcept : implementation_{std::move(implementation)} {}
store::store(store&&) noexcept = default;
store& store::operator=(store&&) noexcept = default;
store::~store() = default;

result<store> store::open(const fs::path& folder, file_system& system) {
  MOLT_CHECK(ensure_folder(folder, system));
  MOLT_TRY(auto lock, lock_store(folder));
  auto made = std::make_unique<implementation>(folder, system, std::move(lock));
  MOLT_CHECK(made->load());
  return store{std::move(made)};
}

const std::vector<release_record>& store::releases() const noexcept { return implementation_->state().releases; }
const std::vector<past_transition>& store::history() const noexcept { return implementation_->state().history; }
const std::optional<transition>& store::in_flight() const noexcept { return implementation_->state().in_flight; }
const std::string& store::attention() const noexcept { return implementation_->state().attention; }
std::string store::running() const { return implementation_->state().running(); }
std::string store::permanent() const { return implementation_->state().with(release_status::permanent); }
bool store::in_probation() const noexcept {
  const auto& all = releases();
  return std::any_of(all.begin(), all.end(), [](const auto& r) { return r.status == release_status::current; });
}
fs::path store::folder_of(std::string_view id) const { return implementation_->folder_of(id); }
std::string store::contents_of(std::string_view id) const {
  const auto* const record = implementation_->state().find(id);
  return record == nullptr ? std::string{} : record->contents;
}
result<release_record> store::rollback_target() const { return implementation_->state().rollback_target(); }
std::string store::boot_release() const { return permanent(); }

result<release_record> store::find(std::string_view id_or_version) const {
  if (const auto* record = implementation_->state().find(id_or_version); record != nullptr) return *record;
  std::vector<release_record> same_version;
  std::string installed;
  for (const auto& record : releases()) {
    if (record.version == id_or_version) same_version.push_back(record);
    if (installed.size() < 500) installed += (installed.empty() ? "" : ", ") + record.id;
  }
  if (same_version.size() == 1) return same_version.front();
  const std::string asked{id_or_version.substr(0, name_bytes_max)};
  if (same_version.empty())
    return error{reason::not_found, "no release \"" + asked + "\" is installed",
                 installed.empty() ? "none is; molt install FILE.molt" : "there are: " + installed};
  std::string several;
  for (const auto& record : same_version) several += (several.empty() ? "" : ", ") + record.id;
  return error{reason::refused, "several releases have the version " + asked + ": " + several, "say which one"};
}

result<std::string> store::install(const fs::path& package_or_folder) {
  MOLT_TRY(const auto staged, stage(package_or_folder));
  MOLT_TRY(auto installed, admit(staged));
  return std::move(installed.id);
}
result<staged_release> store::stage(const fs::path& package_or_folder) const {
  return implementation_->stage(package_or_folder);
}
result<installed_release> store::admit(const staged_release& staged) { return implementation_->admit(staged); }
result<void> store::remove(std::string_view id) { return implementation_->remove(id); }

result<void> store::begin_transition(transition_kind kind, std::string_view to) {
  return implementation_->change([&](store_state& state) { return state.begin(kind, to, utc_now()); });
}
result<void> store::begin_switch() {
  return implementation_->change([](store_state& state) { return state.begin_switch(); });
}
result<void> store::finish_transition(transition_outcome outcome, std::string detail, std::string_view runs) {
  return implementation_->change([&](store_state& state) { return state.finish(outcome, detail, runs, utc_now()); });
}
result<void> store::commit() {
  return implementation_->change([](store_state& state) { return state.commit(utc_now()); });
}

result<bool> store::node_lost(std::string_view why) {
  if (!in_flight() && !in_probation()) return false;
  MOLT_CHECK(implementation_->change([&](store_state& state) {
    (void)state.node_lost(why, utc_now());
    return ok();
  }));
  return true;
}

result<void> store::resolve_by(std::string_view release_the_node_runs) {
  if (!in_flight() && release_the_node_runs == running()) return ok();
  auto resolved = ok();
  MOLT_CHECK(implementation_->change([&](store_state& state) {
    resolved = state.resolve_by(release_the_node_runs, utc_now());
    return ok();
  }));
  return resolved;
}

result<void> store::check_writable() {
  return implementation_->change([](store_state&) { return ok(); });
}

result<void> store::set_attention(std::string text) {
  return implementation_->change([&](store_state& state) {
    state.attention = text;
    return ok();
  });
}

}  // namespace molt::releases
