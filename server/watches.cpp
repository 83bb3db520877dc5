#include "server/watches.hpp"

#include <algorithm>
#include <utility>

namespace molt::servers {

// ---- The last messages

void message_ring::keep(recording most) {
  most_ = {std::min(most.messages, recorded_messages_max), std::min(most.payload_bytes, recorded_payload_bytes_max)};
  make_room();
}

void message_ring::add(recorded_message made) {
  if (most_.messages == 0) return;
  if (made.payload.size() > most_.payload_bytes) {
    made.payload = {};
    made.has_payload = false;
  }
  payload_bytes_ += made.payload.size();
  all_.push_back(std::move(made));
  make_room();
}

void message_ring::make_room() {
  for (; all_.size() > most_.messages; all_.pop_front()) payload_bytes_ -= all_.front().payload.size();
  // Messages are worth keeping without their payloads, too.
  for (auto each = all_.begin(); payload_bytes_ > most_.payload_bytes; ++each) {
    payload_bytes_ -= each->payload.size();
    each->payload = {};
    each->has_payload = false;
  }
}

// ---- One server

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
  last_messages_.keep({});
  ended_ = true;
  why_ = why;
}

watch_record::wanted watch_record::expire(std::int64_t now_ns) {
  const std::lock_guard lock{mutex_};
  if (watchers_ != 0 && now_ns >= until_ns_) watchers_ = 0;
  if (watchers_ == 0) until_ns_ = lasts_ns_ = 0;
  return {watchers_ != 0, last_messages_.most()};
}

bool watch_record::watching() const {
  const std::lock_guard lock{mutex_};
  return watchers_ != 0;
}

bool watch_record::in_use() const {
  const std::lock_guard lock{mutex_};
  return watchers_ != 0 || last_messages_.most().messages != 0;
}

void watch_record::keep(recording most) {
  const std::lock_guard lock{mutex_};
  last_messages_.keep(most);
}

void watch_record::add(recorded_message made) {
  const std::lock_guard lock{mutex_};
  last_messages_.add(std::move(made));
}

recording watch_record::kept() const {
  const std::lock_guard lock{mutex_};
  return last_messages_.most();
}

std::vector<recorded_message> watch_record::last_messages() const {
  const std::lock_guard lock{mutex_};
  return {last_messages_.all().begin(), last_messages_.all().end()};
}

bool watch_record::try_visit(void (*visit)(const recorded_message&, void*), void* with, std::size_t most) noexcept {
  const std::unique_lock lock{mutex_, std::try_to_lock};
  if (!lock) return false;
  const auto& all = last_messages_.all();
  for (std::size_t i = all.size() - std::min(most, all.size()); i < all.size(); ++i) visit(all[i], with);
  return true;
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
        std::find_if(records_.begin(), records_.end(), [](const auto& each) { return !each.second->in_use(); });
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

watch_record* watches::try_find(molt_ref server) noexcept {
  const std::unique_lock lock{mutex_, std::try_to_lock};
  if (!lock) return nullptr;
  const auto found = records_.find(server.bits);
  return found != records_.end() ? found->second.get() : nullptr;
}

void watches::keep_for(const std::string& name, recording most) {
  const std::lock_guard lock{mutex_};
  if (most.messages != 0)
    by_name_.insert_or_assign(name, most);
  else
    by_name_.erase(name);
  any_name_.store(!by_name_.empty(), std::memory_order_release);
}

recording watches::kept_for(std::string_view name) const {
  if (!any_name_.load(std::memory_order_acquire)) return {};
  const std::lock_guard lock{mutex_};
  const auto found = by_name_.find(name);
  return found != by_name_.end() ? found->second : recording{};
}

}  // namespace molt::servers
