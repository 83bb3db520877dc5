// A hoard: a server with many entries, which change with each version.
//
//   1.0.0   hits and name, in an ordinary map
//   2.0.0   and a quota, through an evolving map; the entry named "bad" cannot be converted
//   3.0.0   and a tag, through an evolving map of the evolving map
#include <molt/plugin.hpp>

#include <stdexcept>
#include <string>
#include <utility>

#include "hoard_v1.hpp"

namespace hoard {

#if HOARD == 1
using v1::entry;
using v1::state;
#else
namespace v2 {
struct entry {
  std::int64_t hits = 0;
  std::string name;
  std::int64_t quota = 0;
  static entry evolve(v1::entry&& old) {
    entry made{old.hits, std::move(old.name), 100};
    if (made.name == "bad") throw std::runtime_error{"the entry is bad"};
    return made;
  }
  static v1::entry devolve(entry&& now) noexcept { return {now.hits, std::move(now.name)}; }
};
struct state {
  std::string title;
  molt::evolving_map<std::uint64_t, entry, decltype(v1::state::live)> live;
};
}  // namespace v2
#if HOARD == 2
using v2::entry;
using v2::state;
#else
struct entry {
  std::int64_t hits = 0;
  std::string tag;
  std::string name;
  std::int64_t quota = 0;
  static entry evolve(std::uint64_t id, v2::entry&& old) noexcept {
    return {old.hits, std::to_string(id), std::move(old.name), old.quota};
  }
  static v2::entry devolve(entry&& now) noexcept { return {now.hits, std::move(now.name), now.quota}; }
};
struct state {
  std::string title;
  molt::evolving_map<std::uint64_t, entry, decltype(v2::state::live)> live;
};
#endif
#endif

struct touch {
  using reply = std::int64_t;
  std::uint64_t id = 0;
};
struct sum {
  using reply = std::int64_t;
};
struct left {
  using reply = std::uint64_t;
};

struct server : molt::server<state> {
  using messages = molt::messages<touch, sum, left>;

  state init(molt::context&, const molt::arguments& given) {
    state made;
    made.title = "hoard";
    const auto count = given.number<std::uint64_t>("entries", 0);
    for (std::uint64_t id = 0; id < count; ++id) made.live[id].name = "a name that is stored on the heap";
    if (given.find("bad")) made.live[given.number<std::uint64_t>("bad", 0)].name = "bad";
    return made;
  }
  std::int64_t handle_call(molt::context&, const touch& message) { return ++self().live[message.id].hits; }
  std::int64_t handle_call(molt::context&, const sum&) {
    std::int64_t total = 0;
    for (const auto& [id, each] : self().live) total += each.hits;
    return total;
  }
  std::uint64_t handle_call(molt::context&, const left&) {
#if HOARD == 1
    return self().live.size();
#else
    return self().live.left();
#endif
  }

#if HOARD == 2
  static state code_change(v1::state&& old) noexcept { return {std::move(old.title), std::move(old.live)}; }
  static v1::state code_change_down(state& now) {
    auto live = std::move(now.live).devolved();
    return {std::move(now.title), std::move(live)};
  }
#elif HOARD == 3
  static state code_change(v2::state&& old) noexcept { return {std::move(old.title), std::move(old.live)}; }
  static v2::state code_change_down(state& now) {
    auto live = std::move(now.live).devolved();
    return {std::move(now.title), std::move(live)};
  }
#endif
};

}  // namespace hoard

MOLT_PLUGIN("hoard", MOLT_PLUGIN_VERSION, hoard::server)
