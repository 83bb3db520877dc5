// What becomes of the images that no release has any more, in the background.
//
//   image      event                                                           next
//   draining   it was given here (commit, or what a rollback left)             draining
//              nothing came for a while: looked for who points into it, in a copy of the process
//              -  nobody                                                       tripwire
//              -  somebody, and it was not the last look                       draining, again soon: it may have been
//                                                                              what a stack or a block has not used
//              -  somebody, or it cannot be told                               kept
//              a debugger is attached, an upgrade runs, no copy can be made,
//              others have leases                                              draining, again later
//   tripwire   touched                                                         kept; who it was is told
//              loaded again, by whom it is wanted no more                      draining, from the beginning
//              its time is over                                                gone; kept if the linker does not let go
//   kept       another image is looked at                                      as draining: the holder may have gone
//   any        a release loads it again: readable at once, by loader::load     current, and no more here
//   any        this ends                                                       kept, readable: whoever holds it may
//                                                                              outlive this
//
// Invariants: an image is unmapped only after a look that found nobody and the whole time of its tripwire; one thread
// does all this, and whoever gives an image does not wait for it; servers rest for a fork, and for as long as handlers
// that have begun take, image_rest_max at most, and never while an upgrade runs (`turn`), which waits for such a rest
// at most; images that come one after the other are looked at together. Unmapped images stand in `archive` under their
// build IDs, for stacks that were noted before.
#pragma once

#include "loader/image_evidence.hpp"
#include "loader/plugin_image.hpp"
#include "node/data_plane.hpp"
#include "server/runtime.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace molt::node {

enum class image_state { loading, current, draining, tripwire, kept, gone };
[[nodiscard]] std::string_view to_string(image_state) noexcept;

struct image_settings {
  bool keep = false;                         ///< never unmap: for perf and the like
  std::chrono::milliseconds tripwire{5000};  ///< how long an image is unreadable before it is unmapped
};

/// Of archived images; the oldest go.
inline constexpr std::size_t archived_images_max = 16;
inline constexpr std::uintmax_t archived_bytes_max = std::uintmax_t{256} << 20U;
/// How often an image is looked at that somebody points into, before it is kept.
inline constexpr unsigned image_looks_max = 5;
/// Images that are gone are listed as long as no more than so many came after them.
inline constexpr std::size_t gone_images_max = 16;
/// How long everything waits for handlers that have begun before a copy is made; less at first. If it is not enough
/// there is no copy this time.
inline constexpr std::chrono::milliseconds image_rest_max{16};

struct retired_image {
  std::string plugin;  ///< "kv 1.0.0"
  std::string build_id;
  std::size_t size = 0;
  image_state state = image_state::draining;
  std::string why;  ///< it is still there
  std::vector<std::string> holders;
};

/// How the last look went.
struct last_look {
  std::chrono::nanoseconds at_rest{0};  ///< servers waited
  std::chrono::nanoseconds fork{0};     ///< of which
  std::chrono::nanoseconds scan{0};
  std::uint64_t scanned_bytes = 0;
  std::size_t images = 0;
  std::uint64_t looks = 0;  ///< so far
};

/// Threading: any thread. Ownership: owns the images given; borrows the runtime and `turn`. Unless it says otherwise, a
/// function may wait for a plugin that is being loaded or closed.
class image_retirement {
 public:
  struct surroundings {
    servers::runtime& runtime;
    std::mutex& turn;               ///< held by whoever must not be disturbed by a rest
    log_function log;               ///< not empty
    std::filesystem::path archive;  ///< empty: none
    /// Whether a release has the image (again). Called on the retirement's thread. Empty: none ever has.
    std::function<bool(const loader::plugin_image&)> is_wanted{};
  };
  explicit image_retirement(surroundings);
  image_retirement(const image_retirement&) = delete;
  image_retirement& operator=(const image_retirement&) = delete;
  ~image_retirement();

  /// To be called after each change of what releases have, too.
  void set(const image_settings&);
  /// Takes a lease; nothing happens while there are others. Says what is known at once: `retiring`, or why it is kept.
  [[nodiscard]] loader::unload_report retire(loader::lease last);
  [[nodiscard]] std::vector<retired_image> list() const;
  /// How many are kept; waits for nobody.
  [[nodiscard]] std::size_t kept() const noexcept { return kept_.load(std::memory_order_relaxed); }
  [[nodiscard]] last_look looked() const;
  /// Waits until every image is kept or gone. False: the time has passed.
  [[nodiscard]] bool settle(std::chrono::milliseconds patience) const;

 private:
  using clock = std::chrono::steady_clock;
  struct item {
    loader::lease image;  // null once gone
    retired_image told;
    clock::time_point due;
    unsigned looks = 0;
    unsigned times = 0;       // that it has been given here
    bool look_again = false;  // kept because of what a look found
  };

  void run();
  void tick(std::unique_lock<std::mutex>&);
  void let_go_of_wanted();
  using place = std::deque<item>::iterator;
  [[nodiscard]] place find(const loader::plugin_image*);
  void watch_tripwires(std::unique_lock<std::mutex>&);
  void look(std::unique_lock<std::mutex>&);
  [[nodiscard]] result<loader::evidence_report> look_at(std::span<const loader::lease>, std::chrono::milliseconds rest,
                                                        last_look&) const;
  [[nodiscard]] result<pid_t> make_copy(std::chrono::milliseconds rest, last_look&, const std::function<void()>& before,
                                        const std::function<void(const loader::memory_facts&)>& work) const;
  void judge(item&, const loader::image_evidence&);
  void keep(item&, std::string why);
  void put_off(item&, std::string why, std::chrono::milliseconds time);
  void begin_again(item&);
  void unmap(item&);
  [[nodiscard]] std::string describe(const loader::plugin_image&, const loader::trip&) const;
  void archive(const loader::plugin_image&) const;
  [[nodiscard]] bool anything_to_do() const;
  void count_kept();

  const surroundings with_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  // Guarded by mutex_. The thread alone lets go of leases, so an image that it has found here stays while it looks at
  // it without the mutex.
  std::deque<item> items_;
  image_settings settings_;
  last_look looked_;
  clock::time_point came_{};  // the last image
  unsigned failures_ = 0;     // to make a copy, one after the other
  std::atomic<std::size_t> kept_{0};
  std::atomic<bool> stopping_{false};  // set under mutex_
  std::thread thread_;                 // last
};

}  // namespace molt::node
