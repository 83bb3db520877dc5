// A server type of one loaded image, prepared for dispatch.
//
// Threading: immutable.
#pragma once

#include "plugin/abi.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace molt::servers {

/// The addresses that an image occupies: tells whose code or constants a pointer leads to.
struct image_range {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;

  [[nodiscard]] bool contains(const void* address) const noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    return begin <= at && at < end;
  }
  friend bool operator==(const image_range&, const image_range&) = default;
};

/// The image in this process that holds `address`, as the dynamic linker knows it; empty if none does.
[[nodiscard]] image_range find_image(const void* address);

/// A server type of one loaded image: its handlers and message edges indexed by message key.
///
/// Ownership: shares the lease that keeps the image mapped; the runtime shares a type as long as a server has it or may
/// meet it, until `runtime::retire`.
class server_type : public std::enable_shared_from_this<server_type> {
 public:
  /// `image` is looked up when empty, which takes a lock of the dynamic linker.
  static std::shared_ptr<const server_type> make(const molt_server_type&, std::string version,
                                                 std::shared_ptr<const void> lease, image_range image = {});

  [[nodiscard]] const molt_server_type& abi() const noexcept { return *abi_; }
  [[nodiscard]] std::string_view name() const noexcept { return name_; }
  [[nodiscard]] std::string_view version() const noexcept { return version_; }  ///< of the plugin
  [[nodiscard]] const image_range& image() const noexcept { return image_; }
  /// The same type for servers that are watched: find_direct() finds nothing. It lives in this one, and as long.
  [[nodiscard]] const server_type& watched_twin() const noexcept { return twin_ != nullptr ? *twin_ : *this; }
  [[nodiscard]] bool watched() const noexcept { return watched_ != 0; }
  /// Of a watched twin the type that it is made from; of others themselves.
  [[nodiscard]] const server_type& original() const noexcept { return *original_; }
  [[nodiscard]] const std::shared_ptr<const void>& lease() const noexcept { return lease_; }

  /// By name, which is equal over versions.
  [[nodiscard]] const molt_handler* find(std::string_view message_name) const noexcept;

  /// By key: exactly this message, as far as fingerprints tell. Null if there is none.
  [[nodiscard]] const molt_handler* find(std::uint64_t key) const noexcept {
    const slot& candidate = slots_[(key * multiplier_) >> shift_];
    return candidate.key == key ? candidate.handler : nullptr;
  }

  /// Calls `look` with what may be shown of a state of this type: what its format_status makes of it, or the state
  /// itself. The state must be held, or nobody's. Statuses: MOLT_THREW, and nothing was looked at.
  int show(const void* state, const std::function<void(const void* shown)>& look, molt_text* error) const;

  using handle_function = int (*)(molt_context*, void* state, void* payload, void* reply_storage, molt_text* error);
  /// The function of a handler that answers when it returns; null if there is none. Mostly one load away from the type.
  [[nodiscard]] handle_function find_direct(const molt_message& message) const noexcept {
    const shortcut& candidate = shortcuts_[message.key % shortcuts_count];
    if (candidate.key == message.key) [[likely]]
      return candidate.handle;
    // Read again rather than kept in a register that the direct call would have to save.
    const volatile std::uint64_t& key = message.key;
    const slot& further = slots_[(key * multiplier_) >> shift_];
    const molt_handler* const handler = further.key == key ? further.handler : nullptr;
    return handler != nullptr && (handler->flags | watched_) == 0 ? handler->handle : nullptr;
  }

 private:
  // No slot depends on anything but the key: where two handlers' keys meet, the first has it.
  struct shortcut {
    std::uint64_t key = 0;
    handle_function handle = nullptr;
  };
  static constexpr std::size_t shortcuts_count = 64;
  struct slot {
    std::uint64_t key = 0;
    const molt_handler* handler = nullptr;
  };

  server_type(const molt_server_type&, std::string version, std::shared_ptr<const void> lease, image_range,
              const server_type* original = nullptr);
  void index_handlers();

  std::array<shortcut, shortcuts_count> shortcuts_{};
  const molt_server_type* abi_;
  const slot* slots_ = nullptr;  // a perfect hash of the handlers' keys
  std::uint64_t multiplier_ = 1;
  unsigned shift_ = 63;
  std::uint32_t watched_ = 0;
  std::vector<slot> table_;
  std::string name_;
  std::string version_;
  std::shared_ptr<const void> lease_;
  image_range image_;
  const server_type* original_ = this;
  std::unique_ptr<const server_type> twin_;
};

/// Memory for a state of this schema, uninitialised. Every state that a server has or gets by `become` lies in such
/// memory.
[[nodiscard]] void* allocate_state(const molt_schema&);
/// Gives the memory back; the object in it has been destroyed before.
void free_state(void*, const molt_schema&) noexcept;

}  // namespace molt::servers
