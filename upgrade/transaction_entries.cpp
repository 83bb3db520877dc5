// The entries of evolving containers: converted in slices between two messages, up after every server has moved, down
// before any does, so that neither takes longer the more entries there are.
#include "plugin/schema_text.hpp"
#include "upgrade/transaction_attempt.hpp"

#include <algorithm>
#include <new>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace molt::upgrade {
namespace {

using clock = std::chrono::steady_clock;

/// Converted back while a server's callers wait: some tens of microseconds.
constexpr std::uint64_t converted_at_once_max = 256;
/// Of the time, in percent of that of a slice.
constexpr unsigned callers_share_down = 25;
/// Callers convert what they touch up again. A server of which so many entries in so many slices have not become fewer
/// is insisted on; when that does not help either, more will not.
constexpr unsigned vain_slices_max = 16;
constexpr std::uint64_t least_gain = 256;
constexpr unsigned insisted_in_vain_max = 256;
/// While one server is converted, the callers of the others convert theirs up: so many rounds at most.
constexpr unsigned rounds_back_max = 8;

/// How far one server has come on the way back.
class way_back {
 public:
  servers::tending after(std::uint64_t left) noexcept {
    ++slices_;
    if (left <= converted_at_once_max) return servers::tending::done;
    if (left + least_gain <= least_) {
      least_ = left;
      vain_ = 0;
    } else if (++vain_ >= (insists_ ? insisted_in_vain_max : vain_slices_max)) {
      if (insists_) return servers::tending::done;
      insists_ = true;
      vain_ = 0;
    }
    return insists_ ? servers::tending::insist : servers::tending::again;
  }
  [[nodiscard]] bool at_once() const noexcept { return slices_ <= 1; }

 private:
  std::uint64_t least_ = ~std::uint64_t{0};
  unsigned vain_ = 0;
  unsigned slices_ = 0;
  bool insists_ = false;
};

bool has_slices(const servers::server_type& type) { return type.abi().evolve != nullptr; }

void collect_evolving(const schema_node& node, std::vector<const schema_node*>& all) {
  if (node.what == schema_node::kind::container && node.name.starts_with("evolving_")) {
    all.push_back(&node);
    return;
  }
  for (const auto& argument : node.arguments) collect_evolving(argument, all);
  for (const auto& member : node.members) collect_evolving(member.type, all);
}

/// Whether a state of `from` has evolving containers that `to` does not have as they are.
bool leaves_evolving(const molt_schema& from, const molt_schema& to) {
  const auto from_tree = parse_schema_text(from.text);
  const auto to_tree = parse_schema_text(to.text);
  if (!from_tree || !to_tree) return false;
  std::vector<const schema_node*> here;
  std::vector<const schema_node*> there;
  collect_evolving(*from_tree, here);
  collect_evolving(*to_tree, there);
  return std::any_of(here.begin(), here.end(), [&](const schema_node* each) {
    return std::none_of(there.begin(), there.end(), [&](const schema_node* other) { return *each == *other; });
  });
}

}  // namespace

bool switcher::convert_entries(attempt& going, const bound_release& bound, bool stop_at_failure) {
  const auto& plugins = bound.content().plugins;
  const bool any = std::any_of(plugins.begin(), plugins.end(), [](const auto& plugin) {
    return std::any_of(plugin->types().begin(), plugin->types().end(),
                       [](const auto& type) { return has_slices(*type); });
  });
  if (!any) return true;
  phase_.store(phase::converting, std::memory_order_release);
  std::unordered_map<std::uint64_t, std::uint64_t> left;  // by server
  const auto note = [&](molt_ref server, std::uint64_t now) noexcept {
    try {
      auto& before = left[server.bits];
      entries_left_.fetch_add(now - before, std::memory_order_relaxed);
      before = now;
    } catch (const std::bad_alloc&) {
      return;  // only the count is wrong
    }
  };
  bool early = false;
  entries_left_ = 0;
  runtime_.tend(
      has_slices,
      [&](servers::resting_server& server) {
        const auto now = bound.convert_entries(server, false);
        if (!now) return servers::tending::done;
        note(server.ref(), *now);
        return *now == 0 ? servers::tending::done : servers::tending::again;
      },
      [&] {
        if (going.settings.cancelled && going.settings.cancelled()) going.report.cancelled = true;
        early = early || going.report.cancelled || (stop_at_failure && bound.failed() != 0);
        return !early;
      });
  return !early && !(stop_at_failure && bound.failed() != 0);
}

/// Those of types whose containers `to` knows stay as they are.
void switcher::convert_entries_back(const release_content& from, const release_content& to,
                                    std::chrono::nanoseconds timeout, const std::function<bool()>& cancelled) {
  std::unordered_set<const molt_server_type*> going;
  for (const auto& plugin : from.plugins)
    for (const auto& type : plugin->types()) {
      const auto* const target = to.find_type(type->name());
      if (has_slices(*type) && target != nullptr && leaves_evolving(*type->abi().state, *target->abi().state))
        going.insert(&type->abi());
    }
  if (going.empty()) return;
  const auto bound = bound_current();
  const auto deadline = clock::now() + timeout;
  const auto keep_going = [&] { return clock::now() < deadline && !(cancelled && cancelled()); };
  std::unordered_map<std::uint64_t, way_back> ways;
  const auto look = [&](servers::resting_server& server) noexcept {
    // That one cannot go back says the hook, which comes to it.
    if (!going.contains(&server.type().abi())) return servers::tending::done;
    const auto left = bound->convert_entries(server, true);
    if (!left) return servers::tending::done;
    try {
      return ways[server.ref().bits].after(*left);
    } catch (const std::bad_alloc&) {
      return servers::tending::done;
    }
  };
  for (unsigned round = 0; round < rounds_back_max && keep_going(); ++round) {
    ways.clear();
    runtime_.tend([&](const servers::server_type& type) { return going.contains(&type.original().abi()); }, look,
                  keep_going, callers_share_down);
    if (std::all_of(ways.begin(), ways.end(), [](const auto& way) { return way.second.at_once(); })) return;
  }
}

}  // namespace molt::upgrade
