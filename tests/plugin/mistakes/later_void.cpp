// expect: molt: a message with `using reply = void` is answered later by molt::reply_to<molt::done> and ctx.reply(token)
#include <molt/plugin.hpp>
struct state {};
struct flush { using reply = void; };
struct server : molt::server<state> {
  void handle_call(molt::context&, const flush&, molt::reply_to<void>) {}
};
MOLT_PLUGIN("x", "1", server)
