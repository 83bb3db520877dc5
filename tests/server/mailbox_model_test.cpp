// Every interleaving of the mailbox's protocol (server/cell.hpp), for a few threads and messages.
//
// A model, step for step as engine_mailbox.cpp, engine_next.cpp and engine_direct.cpp are, one step being one access to
// what is shared. What is shared is one server's word, head, pending messages, attention and place in the run queue.
// The search visits every state that any order of steps leads to. In each at most one thread holds the server; where
// nobody can step any more, every message has been handled once, in its sender's order, and the server is idle.
//
// Memory is sequentially consistent here: the light and heavy fences (server/fence.hpp) are there to make the pairs of
// a store and a load of which that is needed so. Waiting callers do not help: whoever may help may also not.
#include "tests/server/interleavings.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace {

enum class is : std::uint8_t { idle, held };

// Where a thread is, named by what it does next.
enum class at : std::uint8_t {
  begin,
  push,           // senders and callers: onto head
  schedule,       // whoever pushed first, or left messages behind
  enqueue,        //
  wait,           // a caller whose call is in the mailbox
  look,           // direct call and handoff: is head empty?
  take,           // by compare-exchange, from idle
  look_again,     // handoff: is anything pending?
  run_direct,     //
  leave_direct,   // by a plain store
  unschedule,     // worker: what is pushed from here on schedules again
  acquire,        //
  tell,           // held by another: set attention
  acquire_again,  //
  drain,          //
  leave,          // what is there to see to?
  settle,         // head from attended to empty
  let_go,         // nothing waits
  divert,         // something waits: head is at least attended
  let_go_behind,  //
  look_wanted,    // attention, after letting go
  attend,         //
  clear_wanted,   //
  end
};

// What a thread does with its messages: casts them; calls; casts them and calls with the last; as a worker's handler
// hands the server over and runs it; does so, but calls with the last, and so lets it go before. Or it is a worker.
enum class kind : std::uint8_t { sender, caller, casting_caller, handing_worker, handing_caller, worker };

struct thread {
  kind what = kind::sender;
  at next = at::begin;
  std::uint8_t left = 0;     // messages to send
  std::uint8_t budget = 0;   // messages that a worker runs in one turn
  std::uint8_t message = 0;  // pushed and not yet seen to; 0: none
  bool wants_enqueue_only = false;
  friend auto operator<=>(const thread&, const thread&) = default;
};

struct state {
  is word = is::idle;
  std::uint8_t holder = 0;
  bool attended = false;              // head, when no message stands there
  std::vector<std::uint8_t> head;     // newest last
  std::vector<std::uint8_t> pending;  // oldest first
  bool scheduled = false;
  bool wanted = false;
  std::uint8_t queued = 0;            // entries of the run queue
  std::vector<std::uint8_t> handled;  // in order
  std::vector<thread> threads;
  friend auto operator<=>(const state&, const state&) = default;

  [[nodiscard]] bool empty() const { return head.empty() && !attended; }
};

struct faults {
  bool no_second_look = false;  // handoff: overwrites what another left pending
  bool no_divert = false;       // leaves pending messages behind an empty head
  bool no_attention = false;    // a direct call does not look when leaving
};

constexpr std::uint8_t turn_budget = 1;

class search {
 public:
  search(std::vector<thread> threads, faults with) : with_{with} { first_.threads = std::move(threads); }

  molt::servers::testing::explored run() {
    return molt::servers::testing::explore_interleavings(
        first_, [this](state& next, std::size_t who) { return step(next, who) ? std::optional{wrong_} : std::nullopt; },
        [this](const state& end) { return check(end); });
  }

 private:
  // A message: its sender in the upper half, its number there in the lower.
  static std::uint8_t message_of(std::size_t who, const thread& sender) {
    return static_cast<std::uint8_t>(who << 4U | (0xfU - sender.left));
  }

  void handle(state& s, std::size_t who, std::uint8_t message) {
    if (s.word != is::held || s.holder != who) wrong_ = "a message was handled by one who does not hold the server";
    for (const auto each : s.handled)
      if (each >> 4U == message >> 4U && each >= message)
        wrong_ = "a sender's messages were handled out of order, or twice";
    s.handled.push_back(message);
  }

  void hold(state& s, std::size_t who) {
    if (s.word == is::held) wrong_ = "two hold the server";
    s.word = is::held;
    s.holder = static_cast<std::uint8_t>(who);
  }

  static bool casts(const thread& me) { return me.what == kind::casting_caller && me.left > 1; }
  static bool calls(const thread& me) {
    const bool at_last = me.what == kind::casting_caller || me.what == kind::handing_caller;
    return me.what == kind::caller || (at_last && me.left == 1);
  }

  static void sent(thread& me) {
    --me.left;
    me.message = 0;
    me.next = me.left == 0 ? at::end : at::begin;
  }

  // After leaving: a worker looks for more to run, others go on with their own.
  void left(thread& me) {
    if (me.what == kind::worker)
      me.next = at::begin;
    else
      sent(me);
  }

  // False: it cannot step now.
  bool step(state& s, std::size_t who) {
    thread& me = s.threads[who];
    switch (me.next) {
      case at::end:
        return false;
      case at::begin:
        if (me.what == kind::worker) {
          if (s.queued == 0) return false;
          --s.queued;
          me.next = at::unschedule;
        } else {
          me.next = me.what == kind::sender || casts(me) ? at::push : at::look;
        }
        return true;

      case at::push: {
        const bool first = s.empty();
        me.message = message_of(who, me);
        s.head.push_back(me.message);
        if (first)
          me.next = at::schedule;
        else
          pushed(me);
        return true;
      }
      case at::schedule:
        if (s.scheduled)
          after_schedule(me);
        else
          me.next = at::enqueue;
        s.scheduled = true;
        return true;
      case at::enqueue:
        ++s.queued;
        after_schedule(me);
        return true;
      case at::wait:
        if (std::find(s.handled.begin(), s.handled.end(), me.message) == s.handled.end()) return false;
        sent(me);
        return true;

      case at::look:
        me.next = s.empty() ? at::take : at::push;
        return true;
      case at::take:
        if (s.word != is::idle) {
          me.next = at::push;
        } else {
          hold(s, who);
          me.next = calls(me) ? at::run_direct : at::look_again;
        }
        return true;
      case at::look_again:  // holder only: not shared
        if (!s.pending.empty() && !with_.no_second_look) {
          me.next = at::leave;
          me.wants_enqueue_only = true;  // and pushes afterwards
        } else {
          s.pending = {message_of(who, me)};
          me.budget = me.what == kind::handing_caller ? 0 : turn_budget;
          me.next = at::drain;
        }
        return true;
      case at::run_direct:
        handle(s, who, message_of(who, me));
        me.next = at::leave_direct;
        return true;
      case at::leave_direct:
        s.word = is::idle;
        if (with_.no_attention)
          left(me);
        else
          me.next = at::look_wanted;
        return true;

      case at::unschedule:
        s.scheduled = false;
        me.next = at::acquire;
        return true;
      case at::acquire:
        if (s.word == is::held) {
          me.next = at::tell;
        } else {
          hold(s, who);
          me.budget = turn_budget;
          me.next = at::drain;
        }
        return true;
      case at::tell:
        s.wanted = true;
        me.next = at::acquire_again;
        return true;
      case at::acquire_again:
        if (s.word == is::held) {
          me.next = at::begin;  // its holder sees to it
        } else {
          hold(s, who);
          me.budget = turn_budget;
          me.next = at::drain;
        }
        return true;

      case at::drain:
        if (me.budget == 0) {
          me.next = at::leave;
        } else if (s.pending.empty() && s.head.empty()) {
          me.next = at::leave;
        } else if (s.pending.empty()) {
          s.pending = std::move(s.head);
          s.head.clear();
          s.attended = true;
        } else {
          const auto oldest = s.pending.front();
          s.pending.erase(s.pending.begin());
          --me.budget;
          handle(s, who, oldest);
        }
        return true;
      case at::leave:
        if (!s.pending.empty() || !s.head.empty())
          me.next = at::divert;
        else
          me.next = s.attended ? at::settle : at::let_go;
        return true;
      case at::settle:
        if (!s.head.empty()) {
          me.next = at::divert;
        } else {
          s.attended = false;
          me.next = at::let_go;
        }
        return true;
      case at::let_go:
        s.word = is::idle;
        me.next = at::look_wanted;
        return true;
      case at::divert:
        if (s.empty() && !with_.no_divert) s.attended = true;
        me.next = at::let_go_behind;
        return true;
      case at::let_go_behind:
        s.word = is::idle;
        me.next = at::schedule;
        return true;

      case at::look_wanted:
        if (s.wanted)
          me.next = at::attend;
        else
          after_leaving(me);
        return true;
      case at::attend:
        if (s.word == is::held) {
          after_leaving(me);
        } else {
          hold(s, who);
          me.next = at::clear_wanted;
        }
        return true;
      case at::clear_wanted:
        s.wanted = false;
        me.next = at::leave;
        return true;
    }
    return false;
  }

  // The envelope is in the mailbox, and somebody will look.
  static void pushed(thread& me) {
    if (calls(me))
      me.next = at::wait;
    else
      sent(me);
  }

  // Whoever schedules has pushed first, or leaves: only that one looks at what is wanted.
  static bool leaves(const thread& me) { return me.what == kind::worker || me.wants_enqueue_only || me.message == 0; }
  static void after_schedule(thread& me) {
    if (leaves(me)) {
      me.next = at::look_wanted;
    } else {
      const bool waits = calls(me);
      me.next = waits ? at::wait : at::end;
      if (!waits) sent(me);
    }
  }
  void after_leaving(thread& me) {
    if (me.wants_enqueue_only) {  // a handoff that found messages: sends in the ordinary way
      me.wants_enqueue_only = false;
      me.next = at::push;
      return;
    }
    left(me);
  }

  [[nodiscard]] std::string check(const state& s) const {
    std::size_t expected = 0;
    for (const thread& each : first_.threads) expected += each.left;
    if (s.handled.size() != expected)
      return "nobody can step, and " + std::to_string(expected - s.handled.size()) + " messages are not handled";
    if (s.word != is::idle) return "everything is handled, and somebody still holds the server";
    if (!s.empty() || !s.pending.empty()) return "everything is handled, and the mailbox is not settled";
    return {};
  }

  state first_;
  faults with_;
  std::string wrong_;  // with the last step
};

thread with(kind what, std::uint8_t messages = 0) {
  thread made;
  made.what = what;
  made.left = messages;
  return made;
}

std::string explore(std::vector<thread> threads, faults given = {}) {
  auto [wrong, states] = search{std::move(threads), given}.run();
  ::testing::Test::RecordProperty("states", std::to_string(states));
  return wrong;
}

TEST(mailbox_model, senders_and_workers_lose_nothing) {
  EXPECT_EQ(explore({with(kind::sender, 2), with(kind::sender, 2), with(kind::worker), with(kind::worker)}), "");
}

TEST(mailbox_model, callers_that_run_the_server_themselves_lose_nothing) {
  EXPECT_EQ(explore({with(kind::caller, 2), with(kind::sender, 2), with(kind::worker)}), "");
  EXPECT_EQ(explore({with(kind::caller, 2), with(kind::caller, 1), with(kind::sender, 1), with(kind::worker)}), "");
  EXPECT_EQ(explore({with(kind::casting_caller, 3), with(kind::sender, 2), with(kind::worker)}), "");
}

TEST(mailbox_model, workers_that_hand_over_messages_lose_nothing) {
  EXPECT_EQ(explore({with(kind::handing_worker, 2), with(kind::sender, 2), with(kind::worker)}), "");
  EXPECT_EQ(explore({with(kind::handing_worker, 2), with(kind::handing_worker, 1), with(kind::worker)}), "");
  EXPECT_EQ(explore({with(kind::handing_caller, 3), with(kind::sender, 2), with(kind::worker)}), "");
  EXPECT_EQ(explore({with(kind::handing_worker, 1), with(kind::caller, 1), with(kind::sender, 2), with(kind::worker)}),
            "");
}

// What the search is worth: with one step left out it finds the message that is lost.
TEST(mailbox_model, finds_what_is_lost_when_a_step_is_missing) {
  EXPECT_NE(
      explore({with(kind::handing_worker, 1), with(kind::sender, 2), with(kind::worker)}, {.no_second_look = true}),
      "");
  EXPECT_NE(explore({with(kind::caller, 2), with(kind::sender, 2), with(kind::worker)}, {.no_attention = true}), "");
  EXPECT_NE(explore({with(kind::handing_caller, 2), with(kind::worker)}, {.no_divert = true}), "");
}

}  // namespace
