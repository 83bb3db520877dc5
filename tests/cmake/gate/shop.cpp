#include <molt/plugin.hpp>

#ifdef OPENS
#include <dlfcn.h>
[[gnu::used]] void* open_more() { return dlopen("libm.so.6", RTLD_NOW); }
#endif
#ifdef THREADS
[[gnu::used]] int start(pthread_t* id) { return pthread_create(id, nullptr, nullptr, nullptr); }
#endif

namespace shop {

#ifdef CHANGED
namespace v1 {
struct state {
  std::int64_t sold = 0;
};
}  // namespace v1
struct state {
  std::int64_t sold = 0;
  std::int64_t returned = 0;
};
#else
struct state {
  std::int64_t sold = 0;
};
#endif

struct sell {
  std::int64_t items = 1;
};

struct server : molt::server<state> {
  void handle_cast(molt::context&, const sell& message) { self().sold += message.items; }
#ifdef UP
  static state code_change(const v1::state& old) { return {old.sold, 0}; }
#endif
#ifdef DOWN
  static v1::state code_change_down(const state& now) { return {now.sold - now.returned}; }
#endif
};

}  // namespace shop

MOLT_PLUGIN("shop", MOLT_PLUGIN_VERSION, shop::server)
