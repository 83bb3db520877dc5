// A plugin of 1 MiB as plugins are: code of many functions, a table of pointers to them that the linker has to correct,
// and data. It is there to be read, hashed and loaded.
#include <molt/plugin.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

// As much as the functions lack to 1 MiB.
__asm__(".pushsection .rodata\n.balign 8\n.fill 73700, 8, 0x6d6f6c740a0d0a00 + " PADDING "\n.popsection");

namespace padded {

constexpr std::size_t functions = 2048;
using function = std::uint64_t (*)(std::uint64_t);

template <std::size_t Number>
[[gnu::noinline]] std::uint64_t mix(std::uint64_t of) {
  constexpr std::uint64_t odd = Number * 2 + 1;
  for (std::uint64_t turn = of & 7U; turn != 0; --turn) {
    of = (of ^ (of >> 31U)) * (0x9e3779b97f4a7c15U ^ odd);
    of = (of ^ (of >> 29U)) * (0xbf58476d1ce4e5b9U + odd);
    of ^= odd << (turn + Number % 16);
  }
  return of;
}

template <std::size_t... Number>
constexpr std::array<function, sizeof...(Number)> all(std::index_sequence<Number...>) {
  return {&mix<Number>...};
}

[[gnu::used]] constexpr auto table = all(std::make_index_sequence<functions>{});

struct state {
  std::int64_t value = 0;
};
struct add {
  using reply = std::int64_t;
  std::int64_t by = 0;
};
struct server : molt::server<state> {
  using messages = molt::messages<add>;
  std::int64_t handle_call(molt::context&, const add& message) {
    const auto value = static_cast<std::uint64_t>(self().value + message.by);
    return self().value = static_cast<std::int64_t>(table[value % functions](value));
  }
};

}  // namespace padded

MOLT_PLUGIN("padded", PADDED_VERSION, padded::server)
