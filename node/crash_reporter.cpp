#include "node/crash_reporter.hpp"

#include "server/server_type.hpp"

#include <boost/json.hpp>

#include <algorithm>
#include <exception>
#include <utility>

namespace molt::node {

namespace {

std::string key_of(const servers::server_failure& told) {
  if (!told.name.empty()) return "server " + told.name;
  return "type " + std::string{told.type != nullptr ? told.type->name() : std::string_view{}};
}

}  // namespace

crash_reporter::crash_reporter(surroundings with)
    : with_{std::move(with)}, folder_{with_.folder}, thread_{[this] { run(); }} {}

crash_reporter::~crash_reporter() { stop(); }

void crash_reporter::note_release(const std::string& id, const std::filesystem::path& folder) {
  const lock held{mutex_};
  release_ = id;
  release_folder_ = folder;
}

void crash_reporter::stop() {
  {
    const lock held{mutex_};
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void crash_reporter::note(const servers::server_failure& told) noexcept {
  try {
    const std::string key = key_of(told);
    {
      const lock held{mutex_};
      if (const auto known = open_.find(key); known != open_.end()) {
        ++known->second.repeated;
        return;
      }
      if (open_.size() >= open_max || stopping_) {
        ++dropped_;
        return;
      }
    }
    open_report made;
    made.fresh = failed_server::of(told);  // runs the plugin's format_status: not under the lock
    made.id = crash_folder::make_id(made.fresh->when);
    made.name = told.name;
    made.ref = told.ref.bits;
    made.due = std::chrono::steady_clock::now() + open_for;
    const lock held{mutex_};
    if (const auto [place, added] = open_.try_emplace(key, std::move(made)); !added) ++place->second.repeated;
    changed_.notify_all();
  } catch (const std::exception& failed) {  // no memory
    with_.log(MOLT_LOG_ERROR, std::string{"a crash report was lost: "} + failed.what());
  }
}

void crash_reporter::run() {
  lock held{mutex_};
  for (;;) {
    const auto now = std::chrono::steady_clock::now();
    const auto fresh =
        std::find_if(open_.begin(), open_.end(), [](const auto& each) { return each.second.fresh.has_value(); });
    if (fresh != open_.end()) {
      write_fresh(held, fresh->second);
      continue;
    }
    const auto due = std::min_element(open_.begin(), open_.end(),
                                      [](const auto& a, const auto& b) { return a.second.due < b.second.due; });
    if (due != open_.end() && (stopping_ || due->second.due <= now)) {
      finish(held, due);
      continue;
    }
    if (due != open_.end())
      changed_.wait_until(held, due->second.due);
    else if (stopping_)
      return;
    else
      changed_.wait(held);
  }
}

void crash_reporter::write_fresh(lock& held, open_report& opened) {
  failed_server failed = std::move(*opened.fresh);
  opened.fresh.reset();
  const std::string id = opened.id;
  const auto release = release_;
  const auto folder = release_folder_;
  held.unlock();
  boost::json::object report;
  try {
    report = report_of(failed, release, {folder});
    if (write(id, report)) with_.log(MOLT_LOG_INFO, "crash report " + id + ": molt crashes show " + id);
  } catch (const std::exception& thrown) {
    with_.log(MOLT_LOG_ERROR, "the crash report " + id + " was lost: " + thrown.what());
  }
  failed = {};
  held.lock();
  opened.report = std::move(report);
}

void crash_reporter::finish(lock& held, std::map<std::string, open_report>::iterator done) {
  open_report finished = std::move(done->second);
  open_.erase(done);
  const auto dropped = std::exchange(dropped_, 0);
  const bool stopping = stopping_;
  held.unlock();
  if (dropped != 0)
    with_.log(MOLT_LOG_WARNING, std::to_string(dropped) + " failures of servers were not reported: too many at once");
  if (!finished.report.empty()) {
    if (!finished.name.empty() && !stopping) {
      const auto now = with_.lookup(finished.name);
      finished.report["restarted"] = now.bits != 0 && now.bits != finished.ref;
    }
    finished.report["repeated"] = finished.repeated;
    write(finished.id, finished.report);
  }
  held.lock();
}

bool crash_reporter::write(const std::string& id, const boost::json::object& report) noexcept {
  try {
    const auto written = folder_.write(id, report);
    if (written) return true;
    with_.log(MOLT_LOG_ERROR, "the crash report " + id + " cannot be written: " + written.error().text());
  } catch (const std::exception& failed) {
    with_.log(MOLT_LOG_ERROR, "the crash report " + id + " cannot be written: " + failed.what());
  }
  return false;
}

}  // namespace molt::node
