// What of this process's memory can be looked through: its mappings, and which of their pages there are.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace molt::loader {

struct mapping {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  bool readable = false;
  bool writable = false;
  bool executable = false;
  bool shared = false;
  std::string path;  ///< empty: of no file; "[heap]", "[stack]"

  [[nodiscard]] bool contains(std::uintptr_t address) const noexcept { return address >= begin && address < end; }
  [[nodiscard]] int protection() const noexcept;  ///< as mprotect takes it
};

/// In ascending order. Errors: io. Threading: any thread.
[[nodiscard]] result<std::vector<mapping>> read_mappings();
/// Null if none holds the address. `all` in ascending order.
[[nodiscard]] const mapping* find_mapping(const std::vector<mapping>& all, std::uintptr_t address) noexcept;

/// Tells which pages have ever been touched, so that reserved memory need not be read. Where the kernel does not say,
/// all of them have. Threading: one at a time.
class resident_pages {
 public:
  resident_pages();
  resident_pages(const resident_pages&) = delete;
  resident_pages& operator=(const resident_pages&) = delete;
  ~resident_pages();
  /// Calls `visit` with the parts of [begin, end) that are there, in ascending order.
  void visit(std::uintptr_t begin, std::uintptr_t end,
             const std::function<void(std::uintptr_t from, std::uintptr_t to)>& visit);

 private:
  int pagemap_ = -1;
  std::vector<std::uint64_t> entries_;
};

[[nodiscard]] std::size_t page_size() noexcept;

}  // namespace molt::loader
