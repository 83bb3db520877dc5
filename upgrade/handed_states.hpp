// States that pass between servers in one operation: what hooks read of other servers, and what they give to servers
// that the release starts.
//
//   given state   event                                           next
//   (none)        a hook gives one to a name                      given
//   given         the init of the server of that name asks        taken; the state stays here until the operation ends
//   given         the operation ends and nobody has asked         refused: everything goes back
//   given, taken  the operation fails                             read by the hooks of the way back, unless its taker
//                                                                 runs; then that one's own is
//
// Invariants: a state of another server is read as it was when everything came to rest; what was given is whole until
// the operation has ended, so that nothing is lost with a server that did not start, or that ends on the way back.
#pragma once

#include "base/result.hpp"
#include "plugin/abi.h"
#include "server/runtime.hpp"
#include "state_migration/archive_buffer.hpp"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace molt::upgrade {

/// Servers that a release starts under their own names: name to type.
using started_servers = std::map<std::string, std::string, std::less<>>;

/// A state to be read: an object, or its archive.
struct state_view {
  const molt_schema* schema = nullptr;
  const void* object = nullptr;
  std::string_view archive;
};

/// Threading: hooks while everything rests, one after the other; `take` any thread.
class handed_states final : public servers::state_giver {
 public:
  /// The server of that name, as it was when everything came to rest; empty: there is none. Error: it cannot be read.
  using finder = std::function<result<std::optional<state_view>>(std::string_view name)>;

  /// `starts`: what the release `into` starts; null: it starts nothing in this operation. `replaces`: a state may be
  /// given to a server that runs, for whoever made this to see to.
  handed_states(finder, std::shared_ptr<const servers::release> into, std::string release_id,
                std::optional<started_servers> starts, bool replaces);
  ~handed_states() override;

  // -- For hooks: molt_change_host's
  int other(const char* name, const molt_schema& as, const void** state, molt_text* error) noexcept;
  int give(const char* name, const molt_schema& of, void* state, molt_text* error) noexcept;

  /// For a server's init.
  int take(std::string_view name, std::string_view type, const molt_schema& as, void* storage,
           molt_text* error) noexcept override;

  /// What was given under that name, taken or not.
  [[nodiscard]] std::optional<state_view> find_given(std::string_view name) const;
  [[nodiscard]] bool is_untaken(std::string_view name) const;
  [[nodiscard]] std::vector<std::string> given() const;
  [[nodiscard]] std::vector<std::string> not_taken() const;
  /// As if it had been taken.
  void settle(std::string_view name);
  /// Constructs in storage what was given under that name. Statuses: those of molt_host::given.
  int copy_to(std::string_view name, const molt_schema& as, void* storage, molt_text* error) const noexcept;
  /// Destroys everything. What `other` has returned is gone.
  void clear() noexcept;

 private:
  /// An object in host memory, destroyed by the image that knows its type.
  struct object {
    const molt_schema* schema = nullptr;
    void* storage = nullptr;
    std::unique_ptr<migration::archive_buffer> archive{};  // instead, where it cannot be moved
    bool taken = false;

    object() = default;
    object(const object&) = delete;
    object& operator=(const object&) = delete;
    ~object();
    [[nodiscard]] state_view view() const noexcept;
  };
  using objects = std::map<std::string, std::unique_ptr<object>, std::less<>>;

  int find_other(std::string_view name, const molt_schema& as, const void** state, molt_text* error);
  int keep(std::string_view name, const molt_schema& of, void* state, molt_text* error);
  /// Whether the server that the release starts under the name begins with such a state.
  int check_receiver(std::string_view name, const molt_schema& of, const void* state, molt_text* error) const;
  static int load(const state_view&, const molt_schema& as, void* storage, molt_text* error) noexcept;

  const finder find_;
  std::shared_ptr<const servers::release> into_;  // keeps the images of what is here mapped
  const std::string release_id_;
  const std::optional<started_servers> starts_;
  const bool replaces_;
  mutable std::mutex mutex_;
  objects given_;
  objects converted_;  // copies that hooks have been shown, by name
};

/// "it is a metrics::state (metrics.count: i32 is now i64), and not a ..."; for two schemas of different structure.
[[nodiscard]] std::string what_differs(const molt_schema& is, const molt_schema& wanted);

}  // namespace molt::upgrade
