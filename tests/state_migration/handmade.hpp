// Schemas and hooks made by hand: what an image would offer, without an image. Objects are counted, so that a test sees
// a state that was destroyed twice or never.
#pragma once

#include "plugin/abi.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

namespace handmade {

inline std::int64_t living = 0;

/// A state of generation N: some numbers and a text. The generations differ only in type.
template <int N>
struct state {
  std::vector<std::int64_t> numbers;
  std::string text;
  std::uint64_t mark = 0x600d57a7e;  // gone once destroyed

  state() { ++living; }
  state(const state& other) : numbers{other.numbers}, text{other.text} { ++living; }
  state(state&& other) noexcept : numbers{std::move(other.numbers)}, text{std::move(other.text)} { ++living; }
  state& operator=(const state&) = default;
  ~state() {
    if (mark != 0x600d57a7e) std::abort();
    mark = 0;
    --living;
  }
};

inline void say(molt_text* text, const char* what) {
  text->size = static_cast<std::uint32_t>(std::min<std::size_t>(std::strlen(what), MOLT_TEXT_CAPACITY));
  std::memcpy(text->data, what, text->size);
}

inline int put(molt_sink* to, const void* bytes, std::size_t size) {
  if (static_cast<std::size_t>(to->end - to->cursor) < size)
    if (const int status = to->grow(to, size); status != MOLT_OK) return status;
  if (size != 0) std::memcpy(to->cursor, bytes, size);
  to->cursor += size;
  return MOLT_OK;
}

inline bool get(molt_source* from, void* bytes, std::size_t size) {
  if (static_cast<std::size_t>(from->end - from->cursor) < size) return false;
  if (size != 0) std::memcpy(bytes, from->cursor, size);
  from->cursor += size;
  return true;
}

/// Counts of calls, and what shall go wrong.
struct behaviour {
  int saves = 0;
  int loads = 0;
  bool save_throws = false;
  bool load_fails = false;
};
inline behaviour now;

template <int N>
int save(const void* object, molt_sink* to, molt_text* error) {
  ++now.saves;
  if (now.save_throws) return say(error, "save threw"), MOLT_THREW;
  const auto& from = *static_cast<const state<N>*>(object);
  const std::uint64_t count = from.numbers.size();
  const std::uint64_t length = from.text.size();
  for (const auto& [bytes, size] : {std::pair<const void*, std::size_t>{&count, 8},
                                    {from.numbers.data(), count * 8},
                                    {&length, 8},
                                    {from.text.data(), length}})
    if (const int status = put(to, bytes, size); status != MOLT_OK) return status;
  return MOLT_OK;
}

template <int N>
int load(void* storage, molt_source* from, molt_text* error) {
  ++now.loads;
  state<N> made;
  std::uint64_t count = 0;
  std::uint64_t length = 0;
  const auto bad = [&] { return say(error, "cut off"), MOLT_BAD_ARCHIVE; };
  if (now.load_fails) return bad();
  if (!get(from, &count, 8) || count > static_cast<std::size_t>(from->end - from->cursor) / 8) return bad();
  made.numbers.resize(count);
  if (!get(from, made.numbers.data(), count * 8)) return bad();
  if (!get(from, &length, 8) || length > static_cast<std::size_t>(from->end - from->cursor)) return bad();
  made.text.resize(length);
  if (!get(from, made.text.data(), length)) return bad();
  new (storage) state<N>{std::move(made)};
  return MOLT_OK;
}

template <int N>
void destroy(void* object) {
  static_cast<state<N>*>(object)->~state();
}

template <int N>
molt_schema schema(const char* name, std::uint64_t fingerprint, std::uint32_t flags = MOLT_SCHEMA_CODE_FREE,
                   std::uint32_t version = 0) {
  return {fingerprint,
          name,
          "struct(64,8){numbers:vector<i64>@0,text:string@24,mark:u64@56}",
          sizeof(state<N>),
          alignof(state<N>),
          flags,
          version,
          save<N>,
          load<N>,
          destroy<N>,
          nullptr};
}

/// A hook that appends "+N" to the text.
template <int From, int To>
int consume(void* from, void* to, const molt_change*, molt_text*) {
  auto& old = *static_cast<state<From>*>(from);
  auto* made = new (to) state<To>;
  made->numbers = std::move(old.numbers);
  made->text = std::move(old.text) + "+" + std::to_string(To);
  old.numbers.clear();
  old.text.clear();
  return MOLT_OK;
}

template <int From, int To>
int copy(void* from, void* to, const molt_change*, molt_text*) {
  const auto& old = *static_cast<const state<From>*>(from);
  auto* made = new (to) state<To>;
  made->numbers = old.numbers;
  made->text = old.text + "+" + std::to_string(To);
  return MOLT_OK;
}

/// Takes half of its input, then throws: what an SDK thunk makes of an exception.
template <int From>
int empty_and_throw(void* from, void*, const molt_change*, molt_text* error) {
  auto& old = *static_cast<state<From>*>(from);
  old.numbers.resize(old.numbers.size() / 2);
  old.text = "half eaten";
  return say(error, "no such luck"), MOLT_THREW;
}

using hook = int (*)(void*, void*, const molt_change*, molt_text*);

inline molt_edge edge(const molt_schema& from, const molt_schema& to, hook apply, std::uint32_t flags = 0,
                      const char* loss = nullptr) {
  return {&from, &to, flags, 0, loss, loss == nullptr ? nullptr : "some of it is lost", apply, nullptr};
}

inline molt_server_type type(const molt_schema& state, const std::vector<molt_edge>& edges) {
  molt_server_type made{};
  made.name = "fixture.server";
  made.state = &state;
  made.state_edges = edges.data();
  made.state_edge_count = static_cast<std::uint32_t>(edges.size());
  return made;
}

}  // namespace handmade
