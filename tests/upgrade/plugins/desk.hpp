// A desk, whose messages, replies and owed replies change with each version; docs/how-to/change-a-message.md shows
// parts of this file.
//
//   `touch` is answered with what it carries plus 1000, `ask` later with that plus 2000; a negative `ask` only when
//   told `answer`. A `tell` of "bad" cannot be converted, nor can a reply of 2013 to `ask`.
#include "desk_types.hpp"

#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

namespace desk {

#if DESK == 1
using namespace v1;
#elif DESK == 2
using namespace v2;
#else
using namespace v3;
#endif

struct server : molt::server<state> {
  using messages = molt::messages<touch, ask, tell, answer, heard, send>;

  state init(molt::context& ctx) {
    static_cast<void>(ctx.join("desks"));
    return {};
  }

  touch::reply handle_call(molt::context&, const touch& m) {
#if DESK == 1
    return m.by + 1000;
#elif DESK == 2
    return {m.by + 1000, m.who};
#else
    return {1, m.by + 1000, m.who};
#endif
  }
  void handle_call(molt::context& ctx, const ask& m, molt::reply_to<ask::reply> token) {
    self().waiting.push_back({token, m.of});
    if (m.of >= 0) static_cast<void>(ctx.continue_with(answer{}));
  }
  void handle_cast(molt::context& ctx, const answer&) {
    for (const auto& each : std::exchange(self().waiting, {})) {
      const std::int64_t sum = (each.of < 0 ? -each.of : each.of) + 2000;
#if DESK == 1
      static_cast<void>(ctx.reply(each.token, sum));
#elif DESK == 2
      static_cast<void>(ctx.reply(each.token, {sum, "the desk"}));
#else
      static_cast<void>(ctx.reply(each.token, {1, sum, "the desk"}));
#endif
    }
  }
  void handle_cast(molt::context&, const tell& m) { self().told.push_back(m.text + " " + MOLT_PLUGIN_VERSION); }
  std::vector<std::string> handle_call(molt::context&, const heard&) { return self().told; }

  void handle_cast(molt::context& ctx, const send& m) {
    tell made;
    const std::chrono::milliseconds delay{m.ms};
    switch (m.how) {
      case send::by::timer:
        made.text = "by timer";
        ctx.send_after(delay, made);
        break;
      case send::by::period:
        made.text = "by period";
        ctx.send_every(delay, made);
        break;
      case send::by::continuation:
        made.text = "by continuation";
        static_cast<void>(ctx.continue_with(made));
        std::this_thread::sleep_for(delay);
        break;
      case send::by::group:
        made.text = "by group";
        ctx.cast_to_group("desks", made);
        break;
      case send::by::offload:
        made.text = "by offload";
        static_cast<void>(ctx.offload([delay](tell&) { std::this_thread::sleep_for(delay); }, made));
        break;
    }
  }

#if DESK == 2
  // What is under way when the release is switched, and what other plugins send that know 1.x only.
  using message_history = molt::history<v1::touch, v1::ask, v1::tell>;

  static touch message_change(v1::touch&& old) { return {old.by, "somebody"}; }
  static v1::touch message_change_down(touch&& now) { return {now.by}; }

  // A caller of 2.0 is answered by 1.x, and a caller of 1.x by 2.0.
  using reply_history = molt::history<std::int64_t>;

  static total reply_change(std::int64_t old) { return {old, "somebody"}; }
  static std::int64_t reply_change_down(const total& now) { return now.sum; }
  // For the replies to `ask` alone, in place of the one above.
  static std::int64_t reply_change_down(const total& now, molt::answer_to<ask>) {
    if (now.sum == 2013) throw std::range_error{"an unlucky reply"};
    return now.sum;
  }

  static ask message_change(v1::ask&& old) { return {old.of, "somebody"}; }
  static v1::ask message_change_down(ask&& now) { return {now.of}; }
  static tell message_change(v1::tell&& old) {
    if (old.text == "bad") throw std::invalid_argument{"a bad word"};
    return {std::move(old.text), 0};
  }
  static v1::tell message_change_down(tell&& now) { return {std::move(now.text)}; }

  // The calls that 1.x has promised to answer are answered by 2.0.
  static state code_change(v1::state&& old) {
    state made{std::move(old.told), {}};
    for (const auto& each : old.waiting) made.waiting.push_back({each.token.as<total>(), each.of});
    return made;
  }
  static v1::state code_change_down(state&& now) {
    v1::state made{std::move(now.told), {}};
    for (const auto& each : now.waiting) made.waiting.push_back({each.token.as<std::int64_t>(), each.of});
    return made;
  }
#elif DESK == 3
  // Step by step: 1.x to 2.x, and that to 3.0. molt composes them.
  using history = molt::history<v1::state, v2::state>;
  using message_history = molt::history<v1::touch, v1::ask, v1::tell, v2::touch, v2::ask, v2::tell>;
  using reply_history = molt::history<std::int64_t, v2::total>;

  static v2::touch message_change(v1::touch&& old) { return {old.by, "somebody"}; }
  static touch message_change(v2::touch&& old) { return {std::move(old.who), old.by, 1}; }
  static v2::touch message_change_down(touch&& now) { return {now.by, std::move(now.who)}; }
  static v1::touch message_change_down(v2::touch&& now) { return {now.by}; }

  static v2::total reply_change(std::int64_t old) { return {old, "somebody"}; }
  static total reply_change(v2::total&& old) { return {1, old.sum, std::move(old.by)}; }
  static v2::total reply_change_down(total&& now) { return {now.sum, std::move(now.by)}; }
  static std::int64_t reply_change_down(const v2::total& now) { return now.sum; }

  static v2::ask message_change(v1::ask&& old) { return {old.of, "somebody"}; }
  static ask message_change(v2::ask&& old) { return {std::move(old.who), old.of}; }
  static v2::ask message_change_down(ask&& now) { return {now.of, std::move(now.who)}; }
  static v1::ask message_change_down(v2::ask&& now) { return {now.of}; }
  static v2::tell message_change(v1::tell&& old) { return {std::move(old.text), 0}; }
  static tell message_change(v2::tell&& old) { return {old.at, std::move(old.text), false}; }
  static v2::tell message_change_down(tell&& now) { return {std::move(now.text), now.at}; }
  static v1::tell message_change_down(v2::tell&& now) { return {std::move(now.text)}; }

  template <class To, class From>
  static To changed(From& from) {
    To made{std::move(from.told), {}};
    for (const auto& each : from.waiting) made.waiting.push_back({{each.token.token}, each.of});
    return made;
  }
  static v2::state code_change(v1::state&& old) { return changed<v2::state>(old); }
  static state code_change(v2::state&& old) { return changed<state>(old); }
  static v2::state code_change_down(state&& now) { return changed<v2::state>(now); }
  static v1::state code_change_down(v2::state&& now) { return changed<v1::state>(now); }
#endif
};

}  // namespace desk

MOLT_PLUGIN("desk", MOLT_PLUGIN_VERSION, desk::server)
