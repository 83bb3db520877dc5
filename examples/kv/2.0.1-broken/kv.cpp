// kv 2.0.1, deliberately broken: its step from 1.x throws at one key in the middle, when half of the store has been
// taken apart. The demo and the tests show that every key is back in its place afterwards.
#include "../2.0.0/keyspace.hpp"
#include "../common/connection.hpp"
#include "../common/expiring_store.hpp"

#include <molt/plugin.hpp>

#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace kv {

/// The value that the new format cannot hold, or so its author thought.
inline constexpr std::string_view unlucky = "unlucky";

inline v2::entry checked(const std::string& text) {
  if (text == unlucky) throw std::runtime_error{"a value that cannot be converted: " + text};
  return {.text = text};
}

struct store : molt::server<state> {
  using messages = molt::messages<execute, remove_expired>;

  executed handle_call(molt::context& context, const execute& batch) {
    return execute_and_look_later<keyspace>(context, self(), batch);
  }
  void handle_cast(molt::context& context, const remove_expired&) { remove_a_slice<keyspace>(context, self()); }

  static state code_change(const v1::state& old) {
    state now;
    for (std::size_t i = 0; i < part_count; ++i)
      for (const std::string& text : old.keys.parts[i].values) now.keys.parts[i].values.push_back(checked(text));
    for (std::size_t i = 0; i < part_count; ++i) {
      now.keys.parts[i].places = old.keys.parts[i].places;
      now.keys.parts[i].vacant = old.keys.parts[i].vacant;
    }
    return now;
  }
  static v1::state code_change_down(state&& now) noexcept { return v2::to_v1(std::move(now)); }
  static constexpr molt::loss code_change_down_loss(const state*) {
    return {"expiry", "keys that were to expire stay for ever; hit counts are dropped"};
  }
};

}  // namespace kv

MOLT_PLUGIN("kv", "2.0.1", kv::store, kv::connection)
