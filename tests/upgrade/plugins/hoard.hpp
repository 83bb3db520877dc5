// A hoard: a server with many entries, which change with each version. Hits are counted by entry and by hour, and which
// entries had any stands in a set.
//
//   1.0.0   hits and name, in an ordinary map, vector and set
//   2.0.0   and a quota, through an evolving map; the entry named "bad" cannot be converted;
//           hours and set evolve too
//   3.0.0   and a tag, through an evolving map of the evolving map; hours evolve once more, the set stays as it became
#include <molt/plugin.hpp>

#include <stdexcept>
#include <string>
#include <utility>

#include "hoard_v1.hpp"

namespace hoard {

#if HOARD == 1
using v1::entry;
using v1::hour;
using v1::state;
using seen_id = std::uint64_t;
#else
namespace v2 {
struct hour {
  std::int64_t hits = 0;
  std::int64_t most = 0;
  static hour evolve(const v1::hour& old) noexcept { return {old.hits, old.hits}; }
  static v1::hour devolve(const hour& now) noexcept { return {now.hits}; }
};
struct seen_id {
  std::uint64_t id = 0;
  static seen_id evolve(const std::uint64_t& old) noexcept { return {old}; }
  static std::uint64_t devolve(const seen_id& now) noexcept { return now.id; }
  friend bool operator==(const seen_id&, const seen_id&) = default;
};
}  // namespace v2
}  // namespace hoard

template <>
struct std::hash<hoard::v2::seen_id> {
  std::size_t operator()(const hoard::v2::seen_id& of) const noexcept { return of.id; }
};

namespace hoard {
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
  molt::evolving_vector<hour, decltype(v1::state::hours)> hours = std::vector<v1::hour>(1000);
  molt::evolving_set<seen_id, decltype(v1::state::seen)> seen;
};
}  // namespace v2
using v2::seen_id;
#if HOARD == 2
using v2::entry;
using v2::hour;
using v2::state;
#else
struct hour {
  std::int64_t hits = 0;
  std::string label;
  std::int64_t most = 0;
  static hour evolve(v2::hour&& old) noexcept { return {old.hits, "an hour", old.most}; }
  static v2::hour devolve(hour&& now) noexcept { return {now.hits, now.most}; }
};
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
  molt::evolving_vector<hour, molt::steady_vector<v2::hour> > hours;
  molt::steady_set<seen_id> seen;
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
  std::int64_t handle_call(molt::context&, const touch& message) {
    auto& entry = self().live[message.id];  // first: it may not be convertible
    ++self().hours[message.id % self().hours.size()].hits;
    self().seen.insert(seen_id{message.id});
    return ++entry.hits;
  }
  std::int64_t handle_call(molt::context&, const sum&) {
    std::int64_t total = 0;
    std::int64_t by_hour = 0;
    for (const auto& [id, each] : self().live) {
      total += each.hits;
      if (self().seen.contains(seen_id{id}) != (each.hits > 0)) throw std::runtime_error{"seen is wrong"};
    }
    for (const auto& each : self().hours) by_hour += each.hits;
    if (by_hour != total) throw std::runtime_error{"the hours are wrong"};
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
  static state code_change(v1::state&& old) noexcept {
    return {std::move(old.title), std::move(old.live), std::move(old.hours), std::move(old.seen)};
  }
  static v1::state code_change_down(state& now) {
    now.live.devolve();
    now.hours.devolve();
    now.seen.devolve();
    return {std::move(now.title), std::move(now.live).devolved(), std::move(now.hours).devolved(),
            std::move(now.seen).devolved()};
  }
#elif HOARD == 3
  static state code_change(v2::state& old) {
    old.hours.finish();
    old.seen.finish();
    return {std::move(old.title), std::move(old.live), std::move(old.hours).finished(), std::move(old.seen).finished()};
  }
  static v2::state code_change_down(state& now) {
    now.live.devolve();
    now.hours.devolve();
    return {std::move(now.title), std::move(now.live).devolved(), std::move(now.hours).devolved(), std::move(now.seen)};
  }
#endif
};

}  // namespace hoard

MOLT_PLUGIN("hoard", MOLT_PLUGIN_VERSION, hoard::server)
