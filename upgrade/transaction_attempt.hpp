// Inside of transaction.hpp: what its source files share.
#pragma once

#include "upgrade/transaction.hpp"

#include <chrono>
#include <memory>

namespace molt::upgrade {

/// What one operation carries along.
struct switcher::attempt {
  const upgrade::settings& settings;
  release_content from;
  release_content to;
  direction going = direction::up;
  std::shared_ptr<release_image> image;
  std::shared_ptr<kept_states> keeps;  // up: made by this operation; down: of the parent, used up
  upgrade::report report;
  std::chrono::steady_clock::time_point begun = std::chrono::steady_clock::now();
  bool switched = false;  // settings.switched was called and had no error
};

}  // namespace molt::upgrade
