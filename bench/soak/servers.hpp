// The soak's servers. SOAK is the version's first number; SOAK_BROKEN is defined in one whose hook throws for some
// accounts.
//
//   type      states                            messages          way between 1 and 2   between 2 and 3
//   account   2.0.0 adds a seal and a list      tick grows in 2   in place, by hooks    keep
//   worker    with a class of its own form      the same          archive               archive
//   warden    the same                          the same          keep                  keep
#include "bench/soak/messages.hpp"

#include <chrono>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace soak {

inline std::string text_of(std::uint64_t id) {
  return "server " + std::to_string(id) + ", with a text that is too long to live without the heap";
}
/// Longer than any call should take: who is not answered by then never will be.
inline constexpr std::chrono::seconds call_timeout{60};

// ---- Accounts

namespace v1 {
struct account_state {
  counts seen;
  std::string text;
};
}  // namespace v1

#if SOAK == 1
using v1::account_state;
using v1::tick;
inline bool is_whole(const account_state& now) { return now.text == text_of(now.seen.id); }
#else
struct account_state {
  counts seen;
  std::string text;
  std::uint64_t seal = 0;
  std::vector<std::uint64_t> echoes;
};
struct tick {
  std::uint64_t by = 0;
  std::string from;
};
inline std::uint64_t seal_of(std::uint64_t id) { return (id + 1) * 0x9e3779b97f4a7c15U; }
inline bool is_whole(const account_state& now) {
  return now.text == text_of(now.seen.id) && now.seal == seal_of(now.seen.id) && now.echoes.size() == 2 &&
         now.echoes[1] == now.seen.id;
}
#endif

inline account_state fresh_account(counts seen, std::string text) {
#if SOAK == 1
  return {seen, std::move(text)};
#else
  return {seen, std::move(text), seal_of(seen.id), {seen.id, seen.id}};
#endif
}

struct account : molt::server<account_state> {
  using messages = molt::messages<touch, audit, bump, relay, forward, travel, arm, disarm, tick>;

  account_state init(molt::context&, const molt::arguments& given) {
    counts seen;
    seen.id = given.number<std::uint64_t>("id", 0);
    return fresh_account(seen, text_of(seen.id));
  }
  counts shown() {
    counts shown = self().seen;
    shown.whole = is_whole(self());
    return shown;
  }
  counts handle_call(molt::context&, const touch& message) {
    ++self().seen.calls;
    self().seen.sum += message.by;
    return shown();
  }
  counts handle_call(molt::context&, const audit&) { return shown(); }
  void handle_cast(molt::context&, const bump& message) {
    ++self().seen.bumps;
    self().seen.sum += message.by;
  }
  relayed handle_call(molt::context& ctx, relay message) {
    ++self().seen.relayed;
    if (message.on.empty()) return {self().seen.id, {}};
    const molt::ref next = message.on.back();
    message.on.pop_back();
    auto answer = ctx.call(next, std::move(message), call_timeout);
    if (!answer) return {0, answer.error().text()};
    return std::move(*answer);
  }
  void handle_cast(molt::context& ctx, forward message) { go_on(ctx, std::move(message)); }
  void handle_call(molt::context& ctx, travel message, molt::reply_to<std::uint64_t> answer) {
    go_on(ctx, {std::move(message.on), answer});
  }
  /// Whatever cannot be sent is missing in the end.
  void go_on(molt::context& ctx, forward message) {
    ++self().seen.forwarded;
    if (!message.on.empty()) {
      const molt::ref next = message.on.back();
      message.on.pop_back();
      static_cast<void>(ctx.cast(next, std::move(message)));
    } else if (message.answer) {
      static_cast<void>(ctx.reply(message.answer, self().seen.id));
    }
  }
  std::uint64_t handle_call(molt::context& ctx, const arm& message) {
#if SOAK == 1
    return ctx.send_after(std::chrono::nanoseconds{message.delay_ns}, tick{1}).id;
#else
    return ctx.send_after(std::chrono::nanoseconds{message.delay_ns}, tick{1, text_of(self().seen.id)}).id;
#endif
  }
  bool handle_call(molt::context& ctx, const disarm& message) { return ctx.cancel(molt::timer{message.timer}); }
  void handle_info(molt::context&, const tick& message) { self().seen.ticks += message.by; }

#if SOAK >= 2
  static account_state code_change(const v1::account_state& old) {
#ifdef SOAK_BROKEN
    if (old.seen.id % 100'003 == 77) throw std::runtime_error{"cannot convert account " + std::to_string(old.seen.id)};
#endif
    return fresh_account(old.seen, old.text);
  }
  static v1::account_state code_change_down(account_state&& now) noexcept { return {now.seen, std::move(now.text)}; }
  static tick message_change(v1::tick&& old) { return {old.by, "an older version"}; }
  static v1::tick message_change_down(tick&& now) noexcept { return {now.by}; }
#endif
};

// ---- Workers

/// Has a form of its own and may hold anything, as far as molt knows: it is carried over by its archive.
class journal {
 public:
  void note(std::uint64_t value) {
    entries_[next_++] = value;
    if (entries_.size() > 16) entries_.erase(entries_.begin());
  }
  [[nodiscard]] bool is_whole() const { return entries_.empty() || entries_.rbegin()->first + 1 == next_; }

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& entries_;
    archive& next_;
  }

 private:
  std::map<std::uint64_t, std::uint64_t> entries_;
  std::uint64_t next_ = 0;
};

struct worker_state {
  counts seen;
  std::string text;
  journal noted;
};

struct worker : molt::server<worker_state> {
  using messages = molt::messages<touch, audit, crash, crash_cast, crash_soon, retire>;

  worker_state init(molt::context& ctx, const molt::arguments& given) {
    worker_state made;
    made.seen.id = given.number<std::uint64_t>("id", 0);
    made.text = text_of(made.seen.id);
    if (auto joined = ctx.join("soak.workers"); !joined) throw std::runtime_error{joined.error().text()};
    return made;
  }
  counts shown() {
    counts shown = self().seen;
    shown.whole = self().text == text_of(self().seen.id) && self().noted.is_whole();
    return shown;
  }
  counts handle_call(molt::context&, const touch& message) {
    ++self().seen.calls;
    self().seen.sum += message.by;
    self().noted.note(message.by);
    return shown();
  }
  counts handle_call(molt::context&, const audit&) { return shown(); }
  counts handle_call(molt::context&, const crash&) { throw std::runtime_error{"as asked"}; }
  void handle_cast(molt::context&, const crash_cast&) { throw std::runtime_error{"as cast"}; }
  bool handle_call(molt::context& ctx, const crash_soon& message) {
    return static_cast<bool>(ctx.send_after(std::chrono::nanoseconds{message.delay_ns}, crash_cast{}));
  }
  bool handle_call(molt::context& ctx, const retire&) {
    ctx.stop_self("as asked");
    return true;
  }
};

// ---- Wardens

struct warden_state {
  std::unordered_map<std::uint64_t, molt::reply_to<std::uint64_t>> pending;
  std::unordered_set<std::uint64_t> monitors;
  std::uint64_t next_key = 0;
  warden_counts seen;
};

struct warden : molt::server<warden_state> {
  using messages = molt::messages<hold, due, compute, computed, molt::offload_failed, watch, molt::down, beat, tally>;

  warden_state init(molt::context& ctx) {
    if (!ctx.send_every(std::chrono::milliseconds{100}, beat{})) throw std::runtime_error{"no timer"};
    return {};
  }
  void handle_call(molt::context& ctx, const hold& message, molt::reply_to<std::uint64_t> token) {
    const auto key = self().next_key++;
    if (!ctx.send_after(std::chrono::nanoseconds{message.delay_ns}, due{key, message.value})) return;
    self().pending.emplace(key, token);
  }
  void handle_info(molt::context& ctx, const due& message) { answer(ctx, message.key, message.value); }
  void handle_call(molt::context& ctx, const compute& message, molt::reply_to<std::uint64_t> token) {
    const auto key = self().next_key++;
    auto work = [](computed& made) { made.value = made.value * 3 + 1; };
    if (!ctx.offload(work, computed{key, message.value})) return;
    self().pending.emplace(key, token);
  }
  void handle_info(molt::context& ctx, const computed& message) { answer(ctx, message.key, message.value); }
  void handle_info(molt::context&, const molt::offload_failed&) { ++self().seen.strays; }
  bool handle_call(molt::context& ctx, const watch& message) {
    const auto made = ctx.monitor(message.who);
    if (made) self().monitors.insert(made.id);
    return static_cast<bool>(made);
  }
  void handle_info(molt::context&, const molt::down& gone) {
    ++(self().monitors.erase(gone.monitor.id) == 1 ? self().seen.downs : self().seen.strays);
  }
  void handle_info(molt::context&, const beat&) { ++self().seen.beats; }
  warden_counts handle_call(molt::context&, const tally&) {
    auto shown = self().seen;
    shown.monitors = self().monitors.size();
    shown.pending = self().pending.size();
    return shown;
  }

 private:
  void answer(molt::context& ctx, std::uint64_t key, std::uint64_t value) {
    const auto found = self().pending.find(key);
    if (found == self().pending.end()) {
      ++self().seen.strays;
      return;
    }
    if (!ctx.reply(found->second, value)) ++self().seen.unsent;
    self().pending.erase(found);
  }
};

}  // namespace soak

MOLT_PLUGIN("soak", MOLT_PLUGIN_VERSION, soak::account, soak::worker, soak::warden)
