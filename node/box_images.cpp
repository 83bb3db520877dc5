// What is mapped, and why: the part of box.hpp that looks at images.
#include "node/box_parts.hpp"

#include <algorithm>
#include <utility>

namespace molt::node {

bool box::implementation::has_image(const loader::plugin_image& image) const {
  auto releases = switcher_->parents();
  releases.push_back(switcher_->current());
  return std::any_of(releases.begin(), releases.end(), [&](const auto& release) {
    return std::any_of(release.plugins.begin(), release.plugins.end(),
                       [&](const auto& plugin) { return &plugin->image() == &image; });
  });
}

namespace {

/// Adds the images of a release, and the addresses that each occupies. Keeps no share of anything.
void add_release(const upgrade::release_content& release, const std::string& why, std::vector<image_status>& all,
                 std::vector<servers::image_range>& ranges) {
  for (const auto& plugin : release.plugins) {
    const auto& image = plugin->image();
    auto known =
        std::find_if(all.begin(), all.end(), [&](const auto& each) { return each.build_id == image.build_id(); });
    if (known == all.end()) {
      const auto range = image.range();
      const auto state = why.empty() ? image_state::current : image_state::draining;
      all.push_back({image.name() + " " + image.version(), image.build_id(), range.size(), state, {}, 0, why, {}});
      ranges.push_back({range.begin(), range.begin() + range.size()});
      known = std::prev(all.end());
    }
    ++known->releases;
  }
}

}  // namespace

std::vector<image_status> box::implementation::images() const {
  std::vector<image_status> all;
  std::vector<servers::image_range> ranges;
  add_release(switcher_->current(), {}, all, ranges);
  for (const auto& parent : switcher_->parents())
    add_release(parent, "rollback to " + parent.id + " needs it", all, ranges);
  const auto uses = runtime_->uses(ranges);
  for (std::size_t i = 0; i < uses.size(); ++i) all[i].uses = uses[i];
  const auto is_known = [&](const std::string& build_id) {
    return std::any_of(all.begin(), all.end(), [&](const auto& each) { return each.build_id == build_id; });
  };
  // Those that are retired have no leases: the runtime has made sure of that.
  for (auto& each : retirement_->list())
    if (!is_known(each.build_id))
      all.push_back({each.plugin, each.build_id, each.size, each.state, {}, 0, each.why, std::move(each.holders)});
  bool changing = false;
  {
    const std::lock_guard lock{mutex_};
    changing = !changing_to_.empty();
  }
  for (const auto& each : loader::images()) {  // of this process: another box in it may have some
    if (is_known(each.build_id)) continue;
    const auto state = !each.resident_because.empty() ? image_state::kept
                       : changing                     ? image_state::loading
                                                      : image_state::draining;
    all.push_back({each.plugin, each.build_id, each.range.size(), state, {}, 0, each.resident_because, {}});
  }
  return all;
}

}  // namespace molt::node
