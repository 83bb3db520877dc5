// Inside of supervisor.hpp: the tree, what is done with it, and its locks.
//
//   operation_  one operation at a time: start, stop, a step of an update, terminate_child, one restart. Held while
//               children's code runs.
//   data_       the tree's structure, for those who only ask, and the references; held for moments. Whoever writes has
//               both; whoever reads has one of them.
//   queue_mutex_ what has ended and was not attended to yet; innermost.
#pragma once

#include "server/dynamic_children.hpp"
#include "server/supervisor.hpp"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

namespace molt::servers {

struct supervisor_node;

struct supervised_child {
  child_spec spec;
  supervisor_node* parent = nullptr;  // null: leaving
  molt_ref ref{};
  unsigned restarts = 0;
  bool added = false;   // by start_child: no release knows it
  bool wanted = false;  // does not run and is to be started, by the step of an update under way or to come
  std::unique_ptr<supervisor_node> below;  // a supervisor's
};

struct supervisor_node {
  std::string name;
  supervised_child* self = nullptr;  // in the supervisor above; null: the root
  servers::strategy strategy = strategy::one_for_one;
  unsigned intensity = 1;
  std::chrono::milliseconds period{5000};
  servers::auto_shutdown auto_shutdown = auto_shutdown::never;
  bool running = false;
  std::vector<std::unique_ptr<supervised_child>> children;
  std::deque<std::chrono::steady_clock::time_point> restarts;  // within the last period, at most `intensity`
  dynamic_children::group_ptr group;                           // dynamic
};

class supervisor::implementation {
 public:
  implementation(runtime&, std::function<void(std::string_view)> gave_up);
  ~implementation();
  implementation(const implementation&) = delete;
  implementation& operator=(const implementation&) = delete;

  result<void> start(supervisor_spec);
  result<void> stop(std::string_view why);

  result<void> begin_update(supervisor_spec);
  result<void> finish_update(std::vector<changed_arguments>*);
  result<void> undo_update();

  result<molt_ref> start_child(std::string_view under, child_spec);
  result<void> terminate_child(std::string_view under, std::string_view child);
  result<void> terminate_child(std::string_view under, molt_ref child);
  result<molt_ref> restart_child(std::string_view under, std::string_view child);
  result<void> delete_child(std::string_view under, std::string_view child);
  [[nodiscard]] dynamic_children& dynamic() noexcept { return *dynamic_; }

  [[nodiscard]] result<std::vector<child_info>> which_children(std::string_view under) const;
  [[nodiscard]] result<child_count> count_children(std::string_view under) const;
  [[nodiscard]] std::vector<child_info> children() const;
  [[nodiscard]] std::string supervisor_of(molt_ref) const;
  void child_ended(const exit_event&);

 private:
  using child = supervised_child;
  using node = supervisor_node;
  using children_list = std::vector<std::unique_ptr<child>>;
  using spec_ptr = std::shared_ptr<const supervisor_spec>;

  struct ended_server {
    molt_ref ref{};
    bool failed = false;
    std::string why;
  };
  using event = std::variant<ended_server, dynamic_children::wanted, dynamic_children::done>;
  enum class leave { at_once, drained };

  // -- The tree (supervision_tree.cpp)
  [[nodiscard]] static result<void> check(const supervisor_spec&);
  void settle_node(node&, const supervisor_spec&);
  std::unique_ptr<child> make_child(const child_spec&, node& parent);
  void make_children(node&, const supervisor_spec&);
  [[nodiscard]] result<node*> find_node(std::string_view name) const;
  [[nodiscard]] result<child*> find_child(std::string_view under, std::string_view name) const;
  [[nodiscard]] static bool contains(const node&, std::string_view name);
  void publish_names();
  void forget(child&);
  [[nodiscard]] static std::string path_of(const node&);
  [[nodiscard]] child_info info_of(const child&) const;
  void add_infos(const node&, std::vector<child_info>&) const;
  [[nodiscard]] static bool runs(const child&) noexcept;

  // -- Starting and stopping; operation_ is held (supervisor.cpp)
  result<void> start_node(node&, const supervisor_spec&);
  result<void> start_one(child&);
  result<void> start_server(child&);
  void drop_ignored(node&);
  result<void> stop_one(child&, std::string_view why, leave);
  result<void> stop_node(node&, std::string_view why, leave);
  molt_ref take_ref(child&);

  // -- Restarting; operation_ is held (supervisor.cpp)
  void run();
  std::string attend(event&);
  std::string attend_server(const ended_server&);
  std::string attend_dynamic(dynamic_children::wanted&);
  std::string attend_done(const dynamic_children::done&);
  std::string react(child&, bool failed, std::string why);
  [[nodiscard]] static bool shuts_down(const node&, const child& ended) noexcept;
  std::string shut_down(node&, const std::string& why);
  std::string escalate(node& gave_up, std::string why);
  /// Empty: done. Otherwise why the supervisor has given up, and is stopped.
  std::string restart(node&, child&, std::string why);
  result<void> restart_from(node&, std::size_t first, child*& failing);
  bool too_many_restarts(node&);
  void count_restart(child&);
  std::string give_up(node&, std::string_view child_name, std::string_view why);
  void post(event);

  // -- Updates; operation_ is held (supervisor_update.cpp)
  struct rearrangement;
  result<void> rearrange(const supervisor_spec& next, const std::function<bool(const std::string&)>& ended, bool all);
  result<void> start_wanted(node&, bool all);
  void make_way(const child&);
  result<void> stop_leaving();
  void note_changed(const supervisor_spec& before, const supervisor_spec& now, std::vector<changed_arguments>&) const;

  runtime& runtime_;
  const std::function<void(std::string_view)> gave_up_;
  const std::shared_ptr<dynamic_children> dynamic_;  // shared with starts under way

  std::mutex operation_;
  mutable std::mutex data_;
  spec_ptr spec_;
  node root_;
  std::unordered_map<std::uint64_t, child*> refs_;
  std::size_t starting_ = 0;  // exits of strangers may be a child's that is not noted yet
  // Under operation_ alone:
  spec_ptr before_update_;  // not null between the two steps of an update
  children_list leaving_;

  std::mutex queue_mutex_;
  std::condition_variable queue_changed_;
  std::deque<event> queue_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace molt::servers
