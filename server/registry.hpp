// Where the servers' records lie, and their names.
//
// Cells lie in one region of address space, reserved once; memory comes as they are used. A slot is used again with the
// next generation. Threading: any thread.
#pragma once

#include "server/cell.hpp"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace molt::servers {

class registry {
 public:
  explicit registry(std::size_t servers_max);
  ~registry();
  registry(const registry&) = delete;
  registry& operator=(const registry&) = delete;

  // -- Cells
  [[nodiscard]] bool is_slot(std::uint32_t slot) const noexcept { return slot < used_.load(std::memory_order_acquire); }
  [[nodiscard]] cell& at(std::uint32_t slot) const noexcept { return cells_[slot]; }
  [[nodiscard]] std::uint32_t slot_of(const cell& each) const noexcept {
    return static_cast<std::uint32_t>(&each - cells_);
  }
  [[nodiscard]] cell_detail& detail(const cell& each) const noexcept { return details_[&each - cells_]; }
  /// Slots that were ever used.
  [[nodiscard]] std::uint32_t used() const noexcept { return used_.load(std::memory_order_acquire); }
  /// A free cell for the caller alone; null when all are taken.
  cell* take_free();
  void give_back(cell&);

  // -- Names
  /// False if the name is taken.
  bool name(cell&, std::string_view name, molt_ref);
  void unname(cell&);
  /// The same without holding the server; nothing if it has no name or has ended.
  void unname(molt_ref);
  [[nodiscard]] molt_ref lookup(std::string_view name) const;
  [[nodiscard]] std::string name_of(const cell&) const;
  /// Nobody is at the names while this is held: for a fork.
  [[nodiscard]] std::unique_lock<std::mutex> hold_names() const { return std::unique_lock{names_mutex_}; }

 private:
  struct hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
  };

  const std::size_t slots_max_;
  std::size_t mapped_bytes_ = 0;
  void* mapped_ = nullptr;
  cell* cells_ = nullptr;
  cell_detail* details_ = nullptr;
  std::atomic<std::uint32_t> used_{0};
  std::mutex free_mutex_;
  std::vector<std::uint32_t> free_;
  mutable std::mutex names_mutex_;
  std::unordered_map<std::string, molt_ref, hash, std::equal_to<>> names_;
};

}  // namespace molt::servers
