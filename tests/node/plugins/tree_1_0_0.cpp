#include "tree_servers.hpp"

namespace tree {

struct counted {
  std::int64_t count = 0;
};
struct worker : basic_worker<counted> {
  using messages = molt::messages<add, tell, added, fail>;
};
struct kid : basic_worker<counted> {
  using messages = molt::messages<add, tell, added, fail>;
};
struct old_kid : basic_worker<counted> {
  using messages = molt::messages<add, tell, added, fail>;
};

}  // namespace tree

MOLT_PLUGIN("tree", "1.0.0", tree::worker, tree::nursery, tree::kid, tree::old_kid)
