#include "server/watches.hpp"

#include <algorithm>
#include <utility>

namespace molt::servers {

void watch_record::begin(std::int64_t until_ns, std::int64_t lasts_ns) {
  const std::lock_guard lock{mutex_};
  ++watchers_;
  until_ns_ = std::max(until_ns_, until_ns);
  lasts_ns_ = std::max(lasts_ns_, lasts_ns);
}

bool watch_record::leave() {
  const std::lock_guard lock{mutex_};
  if (watchers_ == 0) return false;
  return --watchers_ == 0;
}

void watch_record::end(std::string_view why) {
  const std::lock_guard lock{mutex_};
  watchers_ = 0;
  ended_ = true;
  why_ = why;
}

bool watch_record::expire(std::int64_t now_ns) {
  const std::lock_guard lock{mutex_};
  if (watchers_ != 0 && now_ns < until_ns_) return false;
  watchers_ = 0;
  until_ns_ = lasts_ns_ = 0;
  return true;
}

bool watch_record::watching() const {
  const std::lock_guard lock{mutex_};
  return watchers_ != 0;
}

void watch_record::add(trace_event event) {
  const std::lock_guard lock{mutex_};
  handlers_.add(event.took.count());
  event.number = ++last_;
  if (ring_.size() < trace_events_max)
    ring_.push_back(std::move(event));
  else
    ring_[(last_ - 1) % trace_events_max] = std::move(event);
}

trace_page watch_record::read(std::uint64_t after, std::int64_t now_ns) {
  const std::lock_guard lock{mutex_};
  if (watchers_ != 0) until_ns_ = std::max(until_ns_, now_ns + lasts_ns_);
  trace_page page;
  page.watching = watchers_ != 0;
  page.ended = ended_;
  page.why = why_;
  page.last = last_;
  const std::uint64_t first = std::max(last_ - ring_.size(), std::min(after, last_));
  page.missed = first - std::min(after, first);
  for (std::uint64_t number = first + 1; number <= last_; ++number)
    page.events.push_back(ring_[(number - 1) % trace_events_max]);
  return page;
}

duration_histogram watch_record::handlers() const {
  const std::lock_guard lock{mutex_};
  return handlers_;
}

std::shared_ptr<watch_record> watches::make(molt_ref server) {
  const std::lock_guard lock{mutex_};
  if (const auto found = records_.find(server.bits); found != records_.end()) return found->second;
  if (records_.size() >= watched_max) {
    const auto over =
        std::find_if(records_.begin(), records_.end(), [](const auto& each) { return !each.second->watching(); });
    if (over == records_.end()) return nullptr;
    records_.erase(over);
  }
  return records_[server.bits] = std::make_shared<watch_record>();
}

std::shared_ptr<watch_record> watches::find(molt_ref server) const {
  const std::lock_guard lock{mutex_};
  const auto found = records_.find(server.bits);
  return found != records_.end() ? found->second : nullptr;
}

}  // namespace molt::servers
