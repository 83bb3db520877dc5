#include "bench/soak/box.hpp"

#include <cstdlib>
#include <filesystem>
#include <utility>

namespace soak {
namespace {

using namespace std::chrono_literals;
namespace servers = molt::servers;
namespace upgrade = molt::upgrade;

constexpr unsigned restarts_without_end = 1'000'000'000;
constexpr std::chrono::seconds operation_timeout{60};

servers::child_spec worker(std::string name, std::uint64_t id) {
  return {std::move(name), "soak.worker", {{"id", std::to_string(id)}}, servers::restart::permanent, 60s, nullptr};
}

servers::child_spec below(std::string name, servers::supervisor_spec spec) {
  return {std::move(name),
          {},
          {},
          servers::restart::permanent,
          60s,
          std::make_shared<const servers::supervisor_spec>(std::move(spec))};
}

servers::child_spec many(std::string name, const char* type, servers::restart when) {
  servers::supervisor_spec spec;
  spec.strategy = servers::strategy::dynamic;
  spec.intensity = restarts_without_end;
  spec.children_max = std::size_t{1} << 22U;
  spec.model = {{}, type, {}, when, 60s, nullptr};
  return below(std::move(name), std::move(spec));
}

servers::child_spec group(const char* name, servers::strategy how, unsigned intensity) {
  servers::supervisor_spec spec;
  spec.strategy = how;
  spec.intensity = intensity;
  for (std::size_t n = 0; n < group_size; ++n) spec.children.push_back(worker(group_member(name, n), n));
  return below(name, std::move(spec));
}

servers::options settings_of(std::size_t count) {
  servers::options made;
  made.servers_max = count + count / 8 + 4096;
  return made;
}

}  // namespace

std::string worker_name(std::size_t index) { return "worker-" + std::to_string(index); }
std::string group_member(std::string_view group, std::size_t index) {
  return std::string{group} + "-" + std::to_string(index);
}

box::box(std::size_t count, verdict& judge)
    : verdict_{judge}, runtime_{settings_of(count)}, keeper_{runtime_, [this](std::string_view why) {
                                                               verdict_.fail("the root supervisor gave up: %.*s",
                                                                             static_cast<int>(why.size()), why.data());
                                                             }} {
  runtime_.on_exit([this](const servers::exit_event& event) { keeper_.child_ended(event); });
  switcher_.start(load("1.0.0"));
  workers_ = std::max<std::size_t>(count / 100, 64);
  const auto others = workers_ + wardens + groups.size() * group_size;
  accounts_.resize(count > others ? count - others : 1);
  wardens_.resize(wardens);
  start_children();
}

box::~box() { static_cast<void>(keeper_.stop("the soak is over")); }

servers::supervisor_spec box::tree(bool has_season) {
  servers::supervisor_spec root;
  root.intensity = restarts_without_end;
  root.children = {many("accounts", "soak.account", servers::restart::permanent),
                   many("workers", "soak.worker", servers::restart::permanent),
                   many("wardens", "soak.warden", servers::restart::permanent),
                   many("temps", "soak.worker", servers::restart::temporary),
                   group(groups[0], servers::strategy::one_for_all, restarts_without_end),
                   group(groups[1], servers::strategy::rest_for_one, restarts_without_end),
                   group(groups[2], servers::strategy::one_for_one, 0)};
  if (has_season) root.children.push_back(worker("season", 0));
  return root;
}

void box::start_children() {
  const auto must = [](molt::result<molt_ref> started) {
    if (started) return *started;
    std::fprintf(stderr, "soak: a server did not start: %s\n", started.error().text().c_str());
    std::exit(1);
  };
  if (auto started = keeper_.start(tree(false)); !started) {
    std::fprintf(stderr, "soak: the tree did not start: %s\n", started.error().text().c_str());
    std::exit(1);
  }
  for (std::size_t n = 0; n < accounts_.size(); ++n)
    accounts_[n] = must(keeper_.start_child("accounts", "", {{"id", std::to_string(n)}}));
  for (std::size_t n = 0; n < workers_; ++n)
    must(keeper_.start_child("workers", worker_name(n), {{"id", std::to_string(n)}}));
  for (auto& each : wardens_) each = must(keeper_.start_child("wardens", "", {}));
}

upgrade::release_content box::load(const char* version) {
  const std::vector<molt::loader::plugin_file> files{std::string{SOAK_FOLDER "/libsoak-"} + version + ".so"};
  auto loaded = upgrade::load_release(std::string{"soak-"} + version, files);
  if (loaded) return std::move(*loaded);
  std::fprintf(stderr, "soak: %s\n", loaded.error().text().c_str());
  std::exit(1);
}

upgrade::settings box::following(upgrade::mode mode, bool has_season) {
  settings made;
  made.mode = mode;
  made.hook_timeout = operation_timeout;
  made.switch_timeout = operation_timeout;
  made.collect_timeout = operation_timeout;
  made.switched = [this, has_season]() -> molt::result<void> {
    const bool had = runtime_.lookup("season").bits != 0;
    if (auto begun = keeper_.begin_update(tree(has_season)); !begun) return begun;
    begun_ = true;
    if (has_season && !had) seasons_.fetch_add(1);
    return molt::ok();
  };
  made.going_back = [this] {
    begun_ = false;
    if (const auto undone = keeper_.undo_update(); !undone)
      verdict_.fail("the tree did not go back: %s", undone.error().text().c_str());
  };
  return made;
}

step_report box::expect(const char* what, molt::result<report> ended, upgrade::phase expected) {
  if (std::exchange(begun_, false))
    if (const auto finished = keeper_.finish_update(); !finished)
      verdict_.fail("%s: the tree did not follow: %s", what, finished.error().text().c_str());
  if (!ended) {
    verdict_.fail("%s: %s", what, ended.error().text().c_str());
    return {};
  }
  if (ended->result != expected)
    verdict_.fail("%s ended as %s, not %s", what, std::string{to_string(ended->result)}.c_str(),
                  std::string{to_string(expected)}.c_str());
  if (ended->result != expected || expected == upgrade::phase::done) {
    for (const auto& problem : ended->problems) verdict_.fail("%s: %s", what, problem.c_str());
    for (const auto& failure : ended->failures)
      verdict_.fail("%s: %s: %s: %s", what, failure.server.c_str(), failure.hook.c_str(), failure.error.c_str());
  }
  for (const auto& note : ended->notes) verdict_.fail("%s: note: %s", what, note.c_str());
  return {ended->servers_migrated, ended->total, ended->at_rest};
}

void box::commit() {
  const auto gone = switcher_.commit(operation_timeout);
  if (!gone) return verdict_.fail("commit: %s", gone.error().text().c_str());
  for (const auto& image : *gone)
    if (!image.unmapped && molt::loader::unmaps_images())
      verdict_.fail("commit: %s is still mapped: %s", image.plugin.c_str(), image.why.c_str());
}

void box::leave_one_image() {
  const auto gone = switcher_.collect(operation_timeout);
  if (!gone) return verdict_.fail("collecting images: %s", gone.error().text().c_str());
  if (!molt::loader::unmaps_images()) return;
  for (const auto& image : *gone)
    if (!image.unmapped) verdict_.fail("%s is still mapped: %s", image.plugin.c_str(), image.why.c_str());
  if (const auto images = molt::loader::images(); images.size() != 1)
    for (const auto& image : images)
      verdict_.fail("one of %zu images that are mapped where one is in use: %s, %zu leases, %s", images.size(),
                    image.plugin.c_str(), image.leases, image.resident_because.c_str());
}

step_report box::step(unsigned nth) {
  const auto mode = nth % 2 == 0 ? upgrade::mode::lazy : upgrade::mode::atomic;  // steps is odd
  const auto n = nth % steps;
  step_report made;
  switch (n) {
    case 0:
      made = expect("1.0.0 to 2.0.1", switcher_.upgrade(load("2.0.1"), following(mode, true)),
                    upgrade::phase::rolled_back);
      break;
    case 1:
      made = expect("1.0.0 to 2.0.0", switcher_.upgrade(load("2.0.0"), following(mode, true)), upgrade::phase::done);
      break;
    case 2:
      commit();
      [[fallthrough]];
    case 4:
      made = expect("2.0.0 to 3.0.0", switcher_.upgrade(load("3.0.0"), following(mode, true)), upgrade::phase::done);
      break;
    case 6:
      made = expect("2.0.0 back to 1.0.0", switcher_.rollback_to(load("1.0.0"), following(mode, false)),
                    upgrade::phase::done);
      leave_one_image();
      break;
    default:
      made = expect("3.0.0 back to 2.0.0", switcher_.rollback(following(mode, true)), upgrade::phase::done);
  }
  const bool has_season = n != 0 && n != 6;
  if ((runtime_.lookup("season").bits != 0) != has_season)
    verdict_.fail("after step %u the server that only some releases have %s", n,
                  has_season ? "is missing" : "is there");
  return made;
}

}  // namespace soak
