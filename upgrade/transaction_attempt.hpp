// Inside of transaction.hpp: what its source files share.
#pragma once

#include "upgrade/handed_states.hpp"
#include "upgrade/transaction.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <unordered_map>

namespace molt::upgrade {

/// Servers whose hooks use others, with what undoes them.
struct first_moved {
  std::unordered_map<std::uint64_t, std::optional<bound_release::move>> moves;

  /// Room for the undo, before the server is touched; null when there is no memory.
  std::optional<bound_release::move>* make_room(molt_ref ref) noexcept {
    try {
      return &moves[ref.bits];
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }
};

/// What one operation carries along.
struct switcher::attempt {
  const upgrade::settings& settings;
  release_content from;
  release_content to;
  direction going = direction::up;
  std::shared_ptr<bound_release> bound;
  std::shared_ptr<kept_states> keeps;  // up: made by this operation; down: of the parent, used up
  upgrade::report report;
  std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
  std::shared_ptr<handed_states> handed{};       // null: no hook uses states of other servers
  std::shared_ptr<handed_states> handed_back{};  // the same of the way back, if everything rested for it
  std::map<std::string, std::size_t> waiting{};  // messages for servers that hooks have read, and that end
  bool switched = false;                         // settings.switched was called and had no error
};

/// Where to, for servers whose hooks use others.
struct switcher::destination {
  std::shared_ptr<const bound_release> bound;
  std::optional<started_servers> starts;  // with the release
  const handed_states* before = nullptr;  // of what goes back
  bool replaces = false;                  // states may be given to servers that run
};

}  // namespace molt::upgrade
