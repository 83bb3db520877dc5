// The states have a member more; old_kid is gone, fresh is new. Built twice: with FAILS, a worker whose count is 13
// does not get across.
#include "tree_servers.hpp"

namespace tree {

namespace v1 {
struct counted {
  std::int64_t count = 0;
};
}  // namespace v1

struct counted {
  std::int64_t count = 0;
  std::int64_t changes = 0;
};

inline counted changed(const v1::counted& old) {
#ifdef FAILS
  if (old.count == 13) throw std::runtime_error{"13 is too many"};
#endif
  return {old.count, 1};
}

struct worker : basic_worker<counted> {
  using messages = molt::messages<add, tell, added, fail>;
  static counted code_change(const v1::counted& old) { return changed(old); }
  static v1::counted code_change_down(const counted& now) { return {now.count}; }
};
struct kid : basic_worker<counted> {
  using messages = molt::messages<add, tell, added, fail>;
  static counted code_change(const v1::counted& old) { return changed(old); }
  static v1::counted code_change_down(const counted& now) { return {now.count}; }
};
struct fresh : basic_worker<counted> {
  using messages = molt::messages<add, tell, added, fail>;
};

}  // namespace tree

MOLT_PLUGIN("tree", MOLT_PLUGIN_VERSION, tree::worker, tree::nursery, tree::kid, tree::fresh)
