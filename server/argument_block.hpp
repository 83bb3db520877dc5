// What a server was started with, kept for hooks and restarts: a copy that servers started alike one after the other
// share.
//
// Threading: immutable but for its count of users. Ownership: counted; gone with the last user.
#pragma once

#include "plugin/abi.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace molt::servers {

class alignas(16) argument_block {  // cell_detail keeps its address without the lowest bits
 public:
  explicit argument_block(const molt_arguments& from) {
    texts_.reserve(2 * from.count);
    for (std::size_t n = 0; n < from.count; ++n) {
      texts_.emplace_back(from.items[n].key);
      texts_.emplace_back(from.items[n].value);
    }
    items_.reserve(from.count);
    for (std::size_t n = 0; n < from.count; ++n) items_.push_back({texts_[2 * n].c_str(), texts_[2 * n + 1].c_str()});
  }
  argument_block(const argument_block&) = delete;
  argument_block& operator=(const argument_block&) = delete;

  [[nodiscard]] molt_arguments view() const noexcept { return {items_.data(), items_.size()}; }
  [[nodiscard]] bool holds(const molt_arguments& others) const noexcept {
    if (others.count != items_.size()) return false;
    for (std::size_t n = 0; n < others.count; ++n)
      if (texts_[2 * n] != others.items[n].key || texts_[2 * n + 1] != others.items[n].value) return false;
    return true;
  }
  void use() const noexcept { users_.fetch_add(1, std::memory_order_relaxed); }
  /// Null is harmless.
  static void let_go(const argument_block* block) noexcept {
    if (block != nullptr && block->users_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete block;
  }

 private:
  std::vector<std::string> texts_;  // key, value, key, ...
  std::vector<molt_argument> items_;
  mutable std::atomic<std::uint32_t> users_{1};
};

/// Makes blocks, and finds that the next one is the last one again.
///
/// Threading: any thread.
class argument_blocks {
 public:
  argument_blocks() = default;
  argument_blocks(const argument_blocks&) = delete;
  argument_blocks& operator=(const argument_blocks&) = delete;
  ~argument_blocks() { argument_block::let_go(last_); }

  /// To be let go of; null if there are no arguments.
  [[nodiscard]] const argument_block* find_or_make(const molt_arguments& given) {
    if (given.count == 0) return nullptr;
    const std::lock_guard lock{mutex_};
    if (last_ == nullptr || !last_->holds(given)) {
      auto made = std::make_unique<const argument_block>(given);
      argument_block::let_go(last_);
      last_ = made.release();
    }
    last_->use();
    return last_;
  }

 private:
  std::mutex mutex_;
  const argument_block* last_ = nullptr;
};

}  // namespace molt::servers
