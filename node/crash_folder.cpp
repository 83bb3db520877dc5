#include "node/crash_folder.hpp"

#include "base/durable_file.hpp"
#include "base/unique_fd.hpp"
#include "node/crash_raw.hpp"
#include "node/crash_report.hpp"
#include "node/json_codec.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <optional>
#include <system_error>
#include <utility>

namespace molt::node {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

constexpr std::size_t entries_max = 100'000;  // looked at in the folder; it is bounded, but others may write there

bool is_id(std::string_view text) {
  if (text.empty() || text.size() > 64) return false;
  for (const char c : text)
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == 'T' || c == '-')) return false;
  return true;
}

result<std::vector<fs::path>> files_in(const fs::path& folder) {
  std::vector<fs::path> all;
  std::error_code failed;
  fs::directory_iterator entries{folder, failed};
  for (; !failed && entries != fs::directory_iterator{} && all.size() < entries_max; entries.increment(failed))
    all.push_back(entries->path());
  if (failed && failed != std::errc::no_such_file_or_directory)
    return error{reason::io, "reading " + folder.string() + ": " + failed.message()};
  return all;
}

/// Locked by us: whoever would have written it is dead.
std::optional<unique_fd> lock_of_dead(const fs::path& file) {
  unique_fd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)};
  if (!fd || ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return std::nullopt;
  struct stat open_one {};
  struct stat named {};
  // Another one may have taken it, and removed it, between our opening and our locking.
  if (::fstat(fd.get(), &open_one) != 0 || ::lstat(file.c_str(), &named) != 0 || open_one.st_ino != named.st_ino)
    return std::nullopt;
  return fd;
}

}  // namespace

crash_folder::crash_folder(fs::path folder, bounds kept) : folder_{std::move(folder)}, bounds_{kept} {}

std::string crash_folder::make_id(std::chrono::system_clock::time_point when) {
  static std::atomic<unsigned> made{0};
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(when.time_since_epoch()).count() % 1'000'000;
  const std::time_t seconds = std::chrono::system_clock::to_time_t(when);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  // The same time in two processes, or twice in one, is told apart by the last two digits.
  const unsigned apart = (static_cast<unsigned>(::getpid()) * 167U + made.fetch_add(1)) & 0xffU;
  char text[64];
  std::snprintf(text, sizeof text, "%04d%02d%02dT%02d%02d%02d-%06d%02x", parts.tm_year + 1900, parts.tm_mon + 1,
                parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, static_cast<int>(us), apart);
  return text;
}

result<void> crash_folder::write(const std::string& id, json::object report) const {
  if (!is_id(id)) return error{reason::invalid_argument, "no report can have the id " + id};
  std::error_code failed;
  fs::create_directories(folder_, failed);
  if (failed) return error{reason::io, "making " + folder_.string() + ": " + failed.message()};
  report["id"] = id;
  const std::string content = json::serialize(report);
  if (content.size() > crash_report_size_max)
    return error{reason::out_of_bounds, "the crash report " + id + " is larger than 1 MiB"};
  MOLT_CHECK(replace_file(folder_ / (id + ".json"), content, 0600));
  trim();
  return ok();
}

/// Files that are no reports are not ours to remove, nor those that a living node may yet write.
void crash_folder::trim() const {
  struct kept_file {
    fs::path path;
    fs::file_time_type changed;
    std::uintmax_t size = 0;
  };
  const auto files = files_in(folder_);
  if (!files) return;
  std::vector<kept_file> all;
  for (const auto& file : *files) {
    const auto ending = file.extension();
    if (ending != ".json" && ending != ".refused") continue;
    std::error_code failed;
    kept_file found{file, fs::last_write_time(file, failed), 0};
    if (!failed) found.size = fs::file_size(file, failed);
    if (!failed) all.push_back(std::move(found));
  }
  // Reports by the time in their names: one is written again when its server's fate is known.
  const auto name_of = [](const kept_file& each) { return each.path.filename().native(); };
  std::sort(all.begin(), all.end(), [&](const kept_file& a, const kept_file& b) {
    const bool both = a.path.extension() == ".json" && b.path.extension() == ".json";
    return both ? name_of(a) < name_of(b) : a.changed < b.changed;
  });
  std::uintmax_t bytes = 0;
  for (const auto& each : all) bytes += each.size;
  std::size_t count = all.size();
  for (const auto& each : all) {
    if (count <= bounds_.reports_max && bytes <= bounds_.bytes_max) return;
    std::error_code failed;
    fs::remove(each.path, failed);
    --count;
    bytes -= each.size;
  }
}

std::vector<std::string> crash_folder::take_raw_reports(const std::vector<fs::path>& folders,
                                                        const std::function<void(const error&)>& complain) const {
  std::vector<std::string> made;
  const auto files = files_in(folder_);
  if (!files) {
    complain(files.error());
    return made;
  }
  for (const auto& file : *files) {
    if (file.extension() != ".raw") continue;
    const auto locked = lock_of_dead(file);
    if (!locked) continue;
    std::error_code failed;
    const auto content = read_file(file, crash_raw_size_max);
    if (content && content->empty()) {  // it ended in another way
      fs::remove(file, failed);
      continue;
    }
    const auto raw = content ? parse_crash_raw(*content) : result<crash_raw>{content.error()};
    if (!raw) {
      fs::rename(file, fs::path{file}.replace_extension(".refused"), failed);
      complain(raw.error().with("the crash report " + file.string()));
      continue;
    }
    const auto id =
        make_id(std::chrono::system_clock::time_point{std::chrono::duration_cast<std::chrono::system_clock::duration>(
            std::chrono::seconds{raw->seconds} + std::chrono::nanoseconds{raw->nanoseconds})});
    auto searched = folders;
    searched.push_back(folder_ / archived_images_folder);
    if (!raw->folder.empty()) searched.emplace_back(raw->folder);
    if (const auto written = write(id, report_of(*raw, searched)); !written) {
      complain(written.error());  // and try again when there is room
      continue;
    }
    fs::remove(file, failed);
    made.push_back(id);
  }
  return made;
}

result<std::vector<std::string>> crash_folder::ids() const {
  MOLT_TRY(const auto files, files_in(folder_));
  std::vector<std::string> all;
  for (const auto& file : files)
    if (auto id = file.stem().string(); file.extension() == ".json" && is_id(id)) all.push_back(std::move(id));
  std::sort(all.begin(), all.end());
  return all;
}

result<json::object> crash_folder::read_file_of(const std::string& id) const {
  const auto file = folder_ / (id + ".json");
  MOLT_TRY(const auto content, read_file(file, crash_report_size_max));
  auto value = parse_json(content);
  if (!value || !value->is_object()) return error{reason::corrupt, file.string() + " is no crash report"};
  return std::move(value->get_object());
}

result<std::vector<json::object>> crash_folder::list() const {
  MOLT_TRY(const auto all, ids());
  std::vector<json::object> summaries;
  for (auto id = all.rbegin(); id != all.rend(); ++id) {
    const auto report = read_file_of(*id);
    if (report) {
      summaries.push_back(summary_of_report(*report));
    } else if (report.error().why() != reason::not_found) {  // that one went meanwhile
      summaries.push_back({{"id", *id}, {"kind", "unreadable"}, {"what", report.error().message()}});
    }
  }
  return summaries;
}

result<json::object> crash_folder::read(std::string_view wanted) const {
  MOLT_TRY(const auto all, ids());
  if (wanted == "latest") {
    if (all.empty()) return error{reason::not_found, "there is no crash report"};
    return read_file_of(all.back());
  }
  std::vector<std::string> fitting;
  for (const auto& id : all) {
    if (id == wanted) return read_file_of(id);
    if (!wanted.empty() && id.starts_with(wanted)) fitting.push_back(id);
  }
  if (fitting.empty())
    return error{reason::not_found, "there is no crash report " + std::string{wanted.substr(0, 64)},
                 "molt crashes lists them"};
  if (fitting.size() > 1)
    return error{reason::invalid_argument,
                 std::to_string(fitting.size()) + " crash reports begin with " + std::string{wanted.substr(0, 64)},
                 "molt crashes lists them"};
  return read_file_of(fitting.front());
}

}  // namespace molt::node
