// The children of dynamic supervisors: up to millions, so each is a record of 24 bytes found by its server's slot.
//
//   group    event                                   next
//   closed   open()                                  open
//   open     close(), stop()                         closed; starts under way end in `stopping`
//
//   child    event                                   next
//   (none)   start(), the group is open              starting: its init runs on the caller's thread, without the lock
//   starting init returned, the group is still open  running
//            otherwise                               (none)
//            it ended before start() could note it   as running; its end waits among the early ones
//   starting init wants no server to run             (none)
//   running  ended, to be started again              (none); its words go to `again`, and come back by restart()
//            ended otherwise, terminate(), stop()    (none)
//
// When significant children end by themselves and are not started again, `done` is told: after the first, or when none
// is left, as the supervisor's auto_shutdown says.
//
// Invariants: only an open group has children or asks for restarts; a record is in exactly one group's list.
// Threading: any thread, a handler's too.
#pragma once

#include "server/supervisor.hpp"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace molt::servers {

struct supervisor_node;

/// What a child was started with beside the model: its name, then keys and values, each ended by NUL. Null: nothing.
class child_words {
 public:
  child_words() = default;
  child_words(std::string_view name, const molt_argument* given, std::size_t count);
  [[nodiscard]] std::string_view name() const noexcept { return bytes_ == nullptr ? "" : bytes_.get(); }
  /// Appends pointers into this.
  void append_to(std::vector<molt_argument>&) const;

 private:
  std::unique_ptr<char[]> bytes_;
};

/// The children of one dynamic supervisor.
struct dynamic_group {
  explicit dynamic_group(supervisor_node& of) : owner{&of} {}
  supervisor_node* const owner;  ///< of the tree; lives as long as the group is open
  // Under the mutex of dynamic_children:
  std::shared_ptr<const child_spec> model;
  std::size_t children_max = 0;
  servers::auto_shutdown auto_shutdown = auto_shutdown::never;
  bool ended_by_itself = false;  // a significant child, and nobody was told so far
  std::uint32_t id = 0;
  std::uint32_t first = ~std::uint32_t{0};
  std::size_t count = 0;
  std::size_t starting = 0;
  std::size_t restarting = 0;
  std::uint64_t opened = 0;  ///< how often
  bool open = false;
};

class dynamic_children final : public child_starter {
 public:
  using group_ptr = std::shared_ptr<dynamic_group>;
  /// A child that is to be started again.
  struct wanted {
    group_ptr group;
    std::uint64_t opened = 0;
    child_words words;
    std::string why;
  };

  /// A supervisor that is to shut down.
  struct done {
    group_ptr group;
    std::uint64_t opened = 0;
  };

  /// `again` and `over` are called under the lock and must not come back here.
  dynamic_children(runtime& of, std::function<void(wanted)> again, std::function<void(done)> over)
      : runtime_{of}, again_{std::move(again)}, over_{std::move(over)} {}

  /// The names by which supervisors are found; null: there is one, but it is not dynamic.
  void set_names(std::map<std::string, group_ptr, std::less<>>);
  void set_model(dynamic_group&, const child_spec& model, std::size_t children_max, servers::auto_shutdown);
  void open(const group_ptr&);
  /// No child is started any more, and none is starting when this returns (it waits for their inits).
  void close(dynamic_group&);
  /// Closes it and stops all children, within the model's shutdown time together; `drained`: once they have handled
  /// what waits. Error: timeout, and how many end when their handler returns.
  result<void> stop(dynamic_group&, std::string_view why, bool drained);

  result<molt_ref> start_child(std::string_view supervisor, std::string_view name, const molt_arguments&) override;
  /// False: the group has been closed meanwhile.
  [[nodiscard]] bool is_current(const wanted&) const;
  /// Whether it still is.
  [[nodiscard]] bool is_done(const done&) const;
  result<void> restart(wanted&);
  result<void> terminate(dynamic_group&, molt_ref, std::string_view why);

  /// True: it was one of the children.
  bool ended(const exit_event&);
  [[nodiscard]] std::vector<child_info> list(const dynamic_group&) const;
  [[nodiscard]] std::size_t size(const dynamic_group&) const;
  /// Null: it is not one of the children.
  [[nodiscard]] group_ptr group_of(molt_ref) const;

 private:
  static constexpr std::uint32_t none = ~std::uint32_t{0};
  static constexpr std::size_t records_per_chunk = 4096;
  static constexpr std::size_t early_max = 4096;  // beyond, a start asks whether its server still lives
  static constexpr std::size_t stop_batch = 256;

  struct record {
    std::uint32_t generation = 0;  // 0: no child
    std::uint32_t group = none;
    std::uint32_t previous = none;  // slots
    std::uint32_t next = none;
    child_words words;
  };
  static_assert(sizeof(record) == 24);

  struct early_end {
    std::uint64_t bits;
    bool failed;
    std::string why;
  };

  result<molt_ref> start(const group_ptr&, std::string_view name, const molt_argument* given, std::size_t count,
                         child_words& words, bool again);
  /// Notes a child that was started; false: its group was closed meanwhile.
  bool settle(const group_ptr&, std::uint64_t opened, std::uint64_t dropped, molt_ref, child_words&);
  void ended_child(const group_ptr&, child_words, bool failed, std::string_view why);
  void tell_if_done(const group_ptr&);
  [[nodiscard]] static bool is_over(const dynamic_group&) noexcept;
  record* find(molt_ref) noexcept;
  record& at(std::uint32_t slot);
  void insert(dynamic_group&, molt_ref, child_words);
  child_words remove(record&, std::uint32_t slot);
  std::vector<molt_ref> take(dynamic_group&, std::size_t most);

  runtime& runtime_;
  const std::function<void(wanted)> again_;
  const std::function<void(done)> over_;

  mutable std::mutex mutex_;  // everything below; held for moments only
  std::condition_variable settled_;
  std::map<std::string, group_ptr, std::less<>> names_;
  std::vector<group_ptr> groups_;  // by id; null: free
  std::vector<std::unique_ptr<record[]>> chunks_;
  std::map<std::uint64_t, wanted> displaced_;  // ended, not told yet, and their slot is a child's again
  std::size_t starting_ = 0;
  std::deque<early_end> early_;  // ends of servers that may yet turn out to be children; only while some start
  std::uint64_t early_dropped_ = 0;
};

}  // namespace molt::servers
