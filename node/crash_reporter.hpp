// Writes a report for each failure of a server, on a thread of its own, into a crash_folder.
//
//   failure of a server    none open for it         queued, written at once; open for a second
//                          one open for it          counted there
//                          too many are open        counted as dropped, and logged
//   the second is over     -                        written again if there is something to add: whether a server of its
//                                                   name runs again, how often it failed within that second; closed
//
// A server stands for itself by its name; unnamed ones stand for their type. So a storm of failures costs at most one
// report for each name and second, and `open_max` at a time.
//
// Invariants: note() waits for nobody who does I/O; nothing here is fatal: what cannot be written is logged; an image
// is kept mapped only until its report has been written for the first time.
#pragma once

#include "node/crash_folder.hpp"
#include "node/crash_report.hpp"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace molt::node {

class crash_reporter {
 public:
  struct surroundings {
    std::filesystem::path folder;
    std::function<molt_ref(const std::string& name)> lookup;  ///< the server of that name now
    std::function<void(int level, std::string_view text)> log;
  };
  static constexpr std::size_t open_max = 64;
  static constexpr std::chrono::milliseconds open_for{1000};

  explicit crash_reporter(surroundings);
  crash_reporter(const crash_reporter&) = delete;
  crash_reporter& operator=(const crash_reporter&) = delete;
  ~crash_reporter();

  /// What runs from now on: its id, and the folder with its plugins' files. Any thread.
  void note_release(const std::string& id, const std::filesystem::path& folder);

  /// Of runtime::on_failure. Any thread.
  void note(const servers::server_failure&) noexcept;
  /// Writes what there is, and asks for no server any more. Failures noted afterwards are lost.
  void stop();

 private:
  struct open_report {
    std::string id;
    std::string name;  ///< of the server; empty if it has none
    std::uint64_t ref = 0;
    std::optional<failed_server> fresh;  ///< not written yet
    boost::json::object report;          ///< as written; the thread's own
    std::uint64_t repeated = 0;
    std::chrono::steady_clock::time_point due;
  };
  using lock = std::unique_lock<std::mutex>;

  void run();
  void write_fresh(lock&, open_report&);
  void finish(lock&, std::map<std::string, open_report>::iterator);
  bool write(const std::string& id, const boost::json::object&) noexcept;

  const surroundings with_;
  const crash_folder folder_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_
  std::map<std::string, open_report> open_;  // nodes stay where they are; only the thread erases
  std::string release_;
  std::filesystem::path release_folder_;
  std::uint64_t dropped_ = 0;
  bool stopping_ = false;
  std::thread thread_;  // last
};

}  // namespace molt::node
