// One client: reads its requests, has the store execute them, writes the replies.
//
//   reading   bytes become commands, commands are executed at once
//   waiting   the client does not take its replies: commands are kept until output has drained below `output_max`
//   closing   after QUIT or an error: what came before is still answered, what comes after is not read
#pragma once

#include "reply.hpp"
#include "request.hpp"
#include "resp_parser.hpp"

#include <molt/plugin.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace kv {

inline constexpr std::size_t output_max = std::size_t{64} << 20U;    ///< replies not yet taken, beyond which we wait
inline constexpr std::size_t waiting_max = std::size_t{256} << 20U;  ///< bytes of commands that wait
inline constexpr auto drain_poll = std::chrono::milliseconds{2};

struct session {
  requests input;
  std::string farewell;  ///< what is said last when closing
  bool closing = false;
  bool waiting = false;
  molt::named store{"kv.store"};
};

/// To oneself: look whether the client has taken some of its replies.
struct drained {};

struct connection : molt::connection<session> {
  using messages = molt::messages<drained>;

  std::size_t handle_data(molt::context& context, std::string_view data) {
    if (self().closing) return data.size();
    const parsed read = request_parser{self().input, data}.run();
    if (read.last) begin_closing(read);
    if (self().waiting)
      bound_waiting();
    else
      answer(context);
    return self().closing ? data.size() : read.consumed;
  }

  void handle_cast(molt::context& context, const drained&) {
    self().waiting = false;
    answer(context);
  }

 private:
  void begin_closing(const parsed& read) {
    self().closing = true;
    self().farewell = kv::farewell(read);
  }

  void bound_waiting() {
    if (self().input.input.text.size() <= waiting_max || self().closing) return;
    self().closing = true;
    reply{self().farewell}.error("ERR too many commands are waiting for their replies to be read");
  }

  /// Executes what has been read, as long as the client takes its replies.
  void answer(molt::context& context) {
    while (self().input.commands > 0) {
      if (context.output_pending() >= output_max) {
        self().waiting = static_cast<bool>(context.send_after(drain_poll, drained{}));
        if (self().waiting) return;
      }
      execute_batch(context);
    }
    if (!self().closing) return;
    say(context, self().farewell);
    context.close();
  }

  void execute_batch(molt::context& context) {
    const std::uint32_t count = self().input.commands;
    auto done = self().store.call(context, take_commands(self().input));
    if (!done) return say(context, refusals(count, done.error().text()));
    say(context, done->replies);
    if (done->commands < count) put_back(self().input, std::move(done->unanswered), count - done->commands);
  }

  /// The store could not be asked: every command gets an answer, so that the client stays in step.
  static std::string refusals(std::uint32_t count, std::string_view why) {
    std::string replies;
    for (std::uint32_t i = 0; i < count; ++i) reply{replies}.error(std::string{"ERR "}.append(why));
    return replies;
  }

  /// A client that cannot be written to has left, or is about to.
  static void say(molt::context& context, std::string_view replies) {
    if (!context.write(replies)) context.close();
  }
};

}  // namespace kv
