// A plugin written by hand against plugin/abi.h, so that the loader's tests need no SDK and can tell every lie.
//   GENERATION  1, or 2 with one more member and edges
//   LIE         what its table says otherwise than its note
//   SIN         what makes it unfit
#include "plugins/note_writer.hpp"

#include "plugin/abi.h"

#include <new>

#ifndef LIE
#define LIE 0
#endif
#ifndef SIN
#define SIN 0
#endif
#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION "1.0.0"
#endif
#ifndef NOTE_ABI
#define NOTE_ABI 1
#endif

#define SIN_THREAD 1
#define SIN_THREAD_LOCAL 2
#define SIN_THREAD_KEY 3
#define SIN_UNIQUE 4
#define SIN_NO_NOTE 5
#define SIN_TWO_NOTES 6
#define SIN_NO_EXPORT 7
#define SIN_TLS 8
#define SIN_THROWS 9
#define SIN_OPENS_ITSELF 10
#define SIN_PLAIN_CPP 11
#define SIN_LEAVES 12
#define SIN_UNRESOLVED 13
#define SIN_STATICS 14

#if SIN == SIN_THREAD
#include <thread>
void* volatile keep;
[[gnu::used]] void start() {
  std::thread{[] {}}.detach();
}
#elif SIN == SIN_THREAD_LOCAL
struct noisy {
  ~noisy() { value = 1; }
  volatile int value = 0;
};
thread_local noisy own;
[[gnu::used]] int touch() { return own.value; }
#elif SIN == SIN_THREAD_KEY
#include <pthread.h>
[[gnu::used]] int make_key(pthread_key_t* key) { return pthread_key_create(key, nullptr); }
#elif SIN == SIN_UNIQUE
template <class T>
struct [[gnu::visibility("default")]] shared_static {
  static int value;
};
template <class T>
int shared_static<T>::value = 1;
[[gnu::used]] int touch() { return shared_static<int>::value; }
#elif SIN == SIN_TLS
thread_local int plain_tls = 1;
[[gnu::used]] int* touch() { return &plain_tls; }
#elif SIN == SIN_OPENS_ITSELF
#include <dlfcn.h>
[[gnu::constructor]] void open_itself() {
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(&open_itself), &info);
  dlopen(info.dli_fname, RTLD_NOW);
}
#elif SIN == SIN_UNRESOLVED
extern "C" int nobody_has_this();
[[gnu::used]] int touch() { return nobody_has_this(); }
#elif SIN == SIN_STATICS
// Everything that two libraries in one process have been seen to share.
#include <typeinfo>
namespace sharing {
struct shape {
  virtual ~shape() = default;
  virtual int generation() { return GENERATION; }
};
template <class T>
struct holder {
  static inline T value{};
};
inline int& counted() {
  static int count = 0;
  return count;
}
inline int plain = 0;
/// 1 for each of four statics at its first use.
int first_uses() {
  auto* const made = new shape;
  const int virtually = made->generation() == GENERATION ? 0 : 100;
  delete made;
  return virtually + (++counted() == 1 ? 1 : 0) + (++holder<int>::value == 1 ? 1 : 0) + (++plain == 1 ? 1 : 0) +
         (typeid(shape).hash_code() != 0 ? 1 : 0);
}
}  // namespace sharing
#elif SIN == SIN_LEAVES
#include "plugins/keepsakes.hpp"

#include <ctime>
#include <stdexcept>
#include <string>
namespace leaving {
struct own_error : std::exception {
  [[nodiscard]] const char* what() const noexcept override { return "of the plugin"; }
};
struct releases {
  void operator()(const int* number) const { delete number; }
};
void tick(sigval) {}
void leave(molt::testing::keepsakes& with) {
  using kind = molt::testing::keepsakes::kind;
  switch (with.wanted) {
    case kind::nothing:
      break;
    case kind::shared_pointer: {
      std::shared_ptr<int> mine{new int{7}, releases{}};
      with.shared = std::move(mine);
      break;
    }
    case kind::function:
      with.function = [text = std::string{"a text that is too long for a small buffer"}] {
        return static_cast<int>(text.size());
      };
      break;
    case kind::exception:
      try {
        throw own_error{};
      } catch (...) {
        with.thrown = std::current_exception();
      }
      break;
    case kind::thread:
      with.inside = 1;
      while (with.inside == 1) {
        const timespec nap{0, 1'000'000};
        nanosleep(&nap, nullptr);
      }
      break;
    case kind::timer:
      with.on_timer = &tick;
      break;
  }
}
}  // namespace leaving
#elif SIN == SIN_PLAIN_CPP
// What an ordinary plugin includes: nothing of it may be refused.
#include <algorithm>
#include <any>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
static const std::string global_text = "a static with a destructor, longer than the small buffer";
[[gnu::used]] std::string everything(int n) {
  static std::mutex guard;
  const std::lock_guard lock{guard};
  std::ostringstream out;
  std::unordered_map<std::string, std::shared_ptr<int> > map;
  map[global_text] = std::make_shared<int>(n + static_cast<int>(std::thread::hardware_concurrency()));
  std::mt19937 random;
  std::once_flag once;
  std::call_once(once, [&] { out << std::regex_replace(global_text, std::regex{"a+"}, "b"); });
  std::function<int()> f = [&] { return *map[global_text]; };
  out << f() << random() << std::chrono::system_clock::now().time_since_epoch().count();
  if (n < 0) throw std::runtime_error{out.str()};
  std::cout << out.str();
  return out.str();
}
#endif

namespace {

using namespace molt::testing;

struct state_1 {
  std::int64_t value = 0;
};
struct state_2 {
  std::int64_t value = 0;
  std::int64_t hits = 0;
};

int save_nothing(const void*, molt_sink*, molt_text*) { return MOLT_OK; }
int load_nothing(void*, molt_source*, molt_text*) { return MOLT_BAD_ARCHIVE; }
void destroy_nothing(void*) {}

constexpr molt_schema make_schema(const char* name, const char* text, std::uint32_t size, std::uint32_t flags = 5) {
  return {fingerprint(text), name, text, size, 8, flags, 0, save_nothing, load_nothing, destroy_nothing, nullptr};
}
constexpr molt_schema schema_v1 =
    make_schema(GENERATION == 1 ? "counter::state" : "counter::v1::state", state_v1.data(), 8);
constexpr molt_schema schema_add = make_schema("counter::add", add_text.data(), 8, LIE == 5 ? 4 : 5);
constexpr molt_schema schema_i64 = make_schema("std::int64_t", i64_text.data(), 8);
#if GENERATION == 2
constexpr molt_schema schema_v2 = make_schema("counter::state", state_v2.data(), 16);
#endif

constexpr molt_message message_add = {LIE == 1 ? "sub" : "add",
                                      key("add", fingerprint(add_text), fingerprint(i64_text)), &schema_add,
                                      LIE == 6 ? nullptr : &schema_i64};

int handle_add(molt_context*, void* state, void* payload, void* reply, molt_text*) {
  auto& value = static_cast<state_1*>(state)->value;
#if SIN == SIN_STATICS
  value = sharing::first_uses();
#elif SIN == SIN_LEAVES
  leaving::leave(*reinterpret_cast<keepsakes*>(*static_cast<std::int64_t*>(payload)));
#else
  value += *static_cast<std::int64_t*>(payload);
#endif
  new (reply) std::int64_t{value};
  return MOLT_OK;
}
constexpr molt_handler handlers[] = {{&message_add, LIE == 2 ? 1U : 0U, 0, handle_add}};

int init(molt_context*, const molt_arguments*, void* storage, molt_text*) {
  new (storage) state_2{};
  return MOLT_OK;
}

#if GENERATION == 2
int up(void* from, void* to, const molt_change*, molt_text*) {
  new (to) state_2{static_cast<state_1*>(from)->value, 0};
  return MOLT_OK;
}
int down(void* from, void* to, const molt_change*, molt_text*) {
  new (to) state_1{static_cast<state_2*>(from)->value};
  return MOLT_OK;
}
// The order differs from the note's on purpose.
constexpr molt_edge edges[] = {
    {&schema_v2, &schema_v1, MOLT_EDGE_DOWN, 0, LIE == 4 ? nullptr : "hits", "the number of hits", down},
    {&schema_v1, &schema_v2, 0, 0, nullptr, nullptr, up}};
constexpr molt_server_type type = {"counter.server", 0,    1,       &schema_v2, handlers, LIE == 3 ? 1 : 2, 0, edges,
                                   nullptr,          init, nullptr, nullptr,    nullptr};
#else
constexpr molt_server_type type = {"counter.server", 0,       1,    &schema_v1, handlers, 0,      0,
                                   nullptr,          nullptr, init, nullptr,    nullptr,  nullptr};
#endif

constexpr molt_plugin_table table = {LIE == 7 ? 2U : MOLT_ABI_VERSION,
                                     LIE == 8 ? 16U : static_cast<std::uint32_t>(sizeof(molt_plugin_table)),
                                     "counter",
                                     LIE == 9 ? "9.9.9" : PLUGIN_VERSION,
                                     toolchain.data(),
                                     LIE == 10 ? 0U : 1U,
                                     0,
                                     &type,
                                     LIE == 11 ? "member hits is not where it should be" : nullptr,
#ifdef TEST_BUILD
                                     TEST_BUILD
#else
                                     nullptr
#endif
};

constexpr note_writer note = counter_note(GENERATION, PLUGIN_VERSION, NOTE_ABI);
struct elf_note {
  std::uint32_t name_size = 5;
  std::uint32_t size = note.size;
  std::uint32_t type = MOLT_NOTE_TYPE;
  char name[8] = "molt";
  unsigned char bytes[note.size] = {};
};
constexpr elf_note make_note() {
  elf_note made;
  for (std::size_t i = 0; i < note.size; ++i) made.bytes[i] = note.bytes[i];
  return made;
}
#if SIN != SIN_NO_NOTE
[[gnu::used, gnu::section(MOLT_NOTE_SECTION), gnu::aligned(4)]] constexpr elf_note first_note = make_note();
#endif
#if SIN == SIN_TWO_NOTES
[[gnu::used, gnu::section(MOLT_NOTE_SECTION), gnu::aligned(4)]] constexpr elf_note second_note = make_note();
#endif

}  // namespace

#if SIN != SIN_NO_EXPORT
extern "C" [[gnu::visibility("default")]] const molt_plugin_table* molt_plugin() {
#if SIN == SIN_THROWS
  throw 1;
#endif
  return &table;
}
#endif
