// What is upgraded in the measurements: servers with a large table, and a server to have very many of.
// 2.0.0 adds one field
//   table   to each entry, through an evolving map
//   hooked  to each entry, by an ordinary hook
//   moved   beside the table, whose entries stay as they are
//   item    to each item, by an ordinary hook
//   bystander   nothing
//   faulty  to each, by a hook that throws for the one that was started with broken=1
#include <molt/plugin.hpp>

#include <cstdint>
#include <stdexcept>
#include <unordered_map>

#include "gap_v1.hpp"

namespace gap {

struct entry {
  std::int64_t hits = 0;
  std::int64_t last_seen = 0;
#if GAP == 2
  std::int64_t quota = 0;
  static entry evolve(const v1::entry& old) noexcept { return {old.hits, old.last_seen, 100}; }
  static v1::entry devolve(const entry& now) noexcept { return {now.hits, now.last_seen}; }
#endif
};
struct table_state {
#if GAP == 2
  molt::evolving_map<std::uint64_t, entry, decltype(v1::table_state::live)> live;
#else
  std::unordered_map<std::uint64_t, entry> live;
#endif
};
struct hooked_state {
  std::unordered_map<std::uint64_t, entry> live;
};
struct moved_state {
  std::unordered_map<std::uint64_t, v1::entry> live;
#if GAP == 2
  std::int64_t quota = 0;
#endif
};
struct item_state {
  std::int64_t hits = 0;
#if GAP == 2
  std::int64_t quota = 0;
#endif
};

struct bystander_state {
  std::int64_t hits = 0;
};
struct faulty_state {
  std::int64_t hits = 0;
  std::int64_t broken = 0;
#if GAP == 2
  std::int64_t quota = 0;
#endif
};

struct touch {
  using reply = std::int64_t;
  std::uint64_t id = 0;
};

template <class State>
State filled(const molt::arguments& given) {
  State made;
  const auto count = given.number<std::uint64_t>("entries", 0);
  made.live.reserve(count);
  for (std::uint64_t id = 0; id < count; ++id) made.live[id].last_seen = static_cast<std::int64_t>(id);
  return made;
}

struct table : molt::server<table_state> {
  using messages = molt::messages<touch>;
  table_state init(molt::context&, const molt::arguments& given) { return filled<table_state>(given); }
  std::int64_t handle_call(molt::context&, const touch& message) { return ++self().live[message.id].hits; }

#if GAP == 2
  static table_state code_change(v1::table_state&& old) noexcept { return {std::move(old.live)}; }
  static v1::table_state code_change_down(table_state& now) { return {std::move(now.live).devolved()}; }
#endif
};

struct hooked : molt::server<hooked_state> {
  using messages = molt::messages<touch>;
  hooked_state init(molt::context&, const molt::arguments& given) { return filled<hooked_state>(given); }
  std::int64_t handle_call(molt::context&, const touch& message) { return ++self().live[message.id].hits; }

#if GAP == 2
  static hooked_state code_change(const v1::table_state& old) {
    hooked_state made;
    made.live.reserve(old.live.size());
    for (const auto& [id, each] : old.live) made.live.emplace(id, entry{each.hits, each.last_seen, 100});
    return made;
  }
  static v1::table_state code_change_down(const hooked_state& now) {
    v1::table_state made;
    made.live.reserve(now.live.size());
    for (const auto& [id, each] : now.live) made.live.emplace(id, v1::entry{each.hits, each.last_seen});
    return made;
  }
#endif
};

struct moved : molt::server<moved_state> {
  using messages = molt::messages<touch>;
  moved_state init(molt::context&, const molt::arguments& given) { return filled<moved_state>(given); }
  std::int64_t handle_call(molt::context&, const touch& message) { return ++self().live[message.id].hits; }

#if GAP == 2
  static moved_state code_change(v1::table_state&& old) noexcept { return {std::move(old.live), 100}; }
  static v1::table_state code_change_down(moved_state&& now) noexcept { return {std::move(now.live)}; }
#endif
};

struct item : molt::server<item_state> {
  using messages = molt::messages<touch>;
  std::int64_t handle_call(molt::context&, const touch&) { return ++self().hits; }

#if GAP == 2
  static item_state code_change(const v1::item_state& old) noexcept { return {old.hits, 100}; }
  static v1::item_state code_change_down(const item_state& now) noexcept { return {now.hits}; }
#endif
};

struct bystander : molt::server<bystander_state> {
  using messages = molt::messages<touch>;
  std::int64_t handle_call(molt::context&, const touch&) { return ++self().hits; }
};

struct faulty : molt::server<faulty_state> {
  using messages = molt::messages<touch>;
  faulty_state init(molt::context&, const molt::arguments& given) {
    faulty_state made;
    made.broken = given.number<std::int64_t>("broken", 0);
    return made;
  }
  std::int64_t handle_call(molt::context&, const touch&) { return ++self().hits; }

#if GAP == 2
  static faulty_state code_change(const v1::faulty_state& old) {
    if (old.broken != 0) throw std::runtime_error{"this one cannot be converted"};
    return {old.hits, old.broken, 100};
  }
  static v1::faulty_state code_change_down(const faulty_state& now) noexcept { return {now.hits, now.broken}; }
#endif
};

}  // namespace gap

MOLT_PLUGIN("gap", MOLT_PLUGIN_VERSION, gap::table, gap::hooked, gap::moved, gap::item, gap::bystander, gap::faulty)
