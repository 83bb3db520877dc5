#include "upgrade/rehearsal.hpp"

#include "plugin/text.hpp"
#include "state_migration/archive_buffer.hpp"
#include "state_migration/archive_difference.hpp"
#include "upgrade/replay.hpp"

#include <malloc.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <limits>
#include <new>
#include <optional>
#include <unordered_map>

namespace molt::upgrade {
namespace {

using clock = std::chrono::steady_clock;
using migration::likeness;

constexpr std::uint64_t failures_in_all_max = 10 * rehearsal_failures_max;
/// Of each type the first, second, fourth, ... server is looked at closely: what memory it needs, and whether it leaks.
constexpr unsigned rounds_for_leaks = 8;
/// A server that takes longer is counted by itself, and not taken round and round.
constexpr std::chrono::milliseconds large{5};
constexpr std::chrono::milliseconds entries_slice{50};

/// malloc keeps some blocks that a thread has freed for it, and mallinfo2 counts them as in use. How many there are
/// changes with every allocation, unless it is as many as there may be: so they are filled up.
void fill_cache_of_malloc() noexcept {
  constexpr std::size_t sizes = 64;     // as glibc keeps, from the smallest block on,
  constexpr std::size_t smallest = 24;  // each larger than the one before
  constexpr std::size_t step = 2 * sizeof(std::size_t);
  constexpr std::size_t of_each = 16;                  // 7 in glibc before 2.42
  std::array<void* volatile, sizes * of_each> blocks;  // volatile: or the compiler sees that nobody uses them
  for (std::size_t n = 0; n < blocks.size(); ++n) blocks[n] = std::malloc(smallest + n / of_each * step);  // NOLINT
  for (void* const block : blocks) std::free(block);                                                       // NOLINT
}

/// To be compared with what it is later.
std::int64_t heap_in_use() noexcept {
  fill_cache_of_malloc();
  const auto now = ::mallinfo2();
  return static_cast<std::int64_t>(now.uordblks + now.hblkhd);
}

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const auto& text : texts) all += (all.empty() ? "" : ", then ") + text;
  return all;
}

class rehearser {
 public:
  rehearser(servers::runtime& runtime, const servers::runtime::rest_guard& rest, release_content next,
            const rehearsal_task& task, rehearsal_board& board)
      : runtime_{runtime}, rest_{rest}, task_{task}, board_{board} {
    auto settings = task.settings;
    settings.begins = &rehearser::step_begins;
    settings.begins_with = this;
    settings.hook_threads = 1;
    next_ = bound_release::make(next, task.loaded, settings);
    settings.going = direction::down;
    settings.accept_loss = task.losses;
    settings.keep = {};
    const auto next_id = next.id;
    const std::vector<release_content> sources{std::move(next)};
    back_ = bound_release::make(task.from, sources, settings);
    leaving_ = task.settings.leaving;
    hand_states(next_id);
  }

  void visit(servers::resting_server& server) {
    if (board_.failed >= failures_in_all_max) return;
    ++board_.visited;
    const auto& type = server.type();
    const auto* const to = next_->find_type(type.name());
    if (to == &type || std::find(leaving_.begin(), leaving_.end(), type.name()) != leaving_.end()) {
      ++board_.unchanged;
      return;
    }
    begin(server);
    auto& [at, stays, undone_by_archive] = entry_of(type);
    auto& entry = *at;
    const auto nth = ++entry.servers;
    const bool close_look = std::has_single_bit(nth);
    before_.clear();
    const auto begun = clock::now();
    if (!stays && !archive(server, before_, rehearsal_stage::archiving)) return fail_type(entry);
    const auto* const recorded = recorded_of(server);
    const auto answers = recorded != nullptr ? play(server, type, *recorded) : std::vector<replayed>{};
    if (undone_by_archive) entry.undo_ns += (clock::now() - begun).count();
    const auto heap = close_look ? heap_in_use() : 0;
    const auto took = move(server, *next_, rehearsal_stage::migrating);
    if (!took) return fail_type(entry);
    count(entry, *took, close_look ? heap_in_use() - heap : 0, close_look);
    if (!check_kept(server, type) || (!stays && !convert_entries(server))) return fail_type(entry);
    if (recorded != nullptr) compare_replies(*recorded, answers, play(server, type, *recorded), server.type());
    if (task_.one_way) {
      if (undo_) next_->revert(server, *undo_);
      undo_.reset();
      return;
    }
    const auto back = move(server, *back_, rehearsal_stage::going_back);
    if (!back) return fail_type(entry);
    entry.largest_back_ns = std::max(entry.largest_back_ns, back->count());
    if (!stays && (!compare(server) || !compare_given())) return fail_type(entry);
    if (close_look && !stays && *took + *back < large) look_for_leaks(server, entry);
  }

  void finish() {
    set(rehearsal_stage::finished);
    if (board_.failed >= failures_in_all_max)
      note("it ended early, after " + std::to_string(board_.failed) + " failures");
    for (const auto& [type, count] : unclear_)
      note(std::to_string(count) + " servers of " + type +
           " came back with other bytes; whether that is the same state only their own code could tell");
    for (const auto& [type, count] : lossy_)
      note(std::to_string(count) + " servers of " + type + " came back without what the way back declares to lose");
    board_.checksum = checksum_of(board_);
  }

 private:
  using entry = rehearsal_board::type_entry;
  struct known_type {
    entry* at;
    bool stays;              // the very object goes there and back: nothing to compare
    bool undone_by_archive;  // in mode atomic alone
  };

  /// The other servers as they are: each that was moved has gone back before the next one is.
  result<std::optional<state_view>> find_server(std::string_view name) {
    std::optional<state_view> found;
    const molt_ref ref = runtime_.lookup(name);
    if (ref.bits == 0) return found;
    const bool there = runtime_.visit(rest_, ref, [&](servers::resting_server& server) {
      found = state_view{server.type().abi().state, server.state(), {}};
    });
    if (!there) return error{reason::refused, "it is the very server that the hook changes"};
    return found;
  }

  void hand_states(const std::string& next_id) {
    for (const auto& each : task_.loaded) uses_others_ = uses_others_ || next_->uses_others(each);
    if (!uses_others_ && !back_->uses_others(next_->content())) return;
    handed_ = std::make_shared<handed_states>([this](std::string_view name) { return find_server(name); }, next_,
                                              next_id, task_.starts, false);
    const auto given_or_running = [this](std::string_view name) -> result<std::optional<state_view>> {
      if (auto given = handed_->find_given(name)) return given;
      return find_server(name);
    };
    handed_back_ = std::make_shared<handed_states>(given_or_running, back_, task_.from.id, task_.starts_back, true);
    next_->hand_states(handed_.get());
    back_->hand_states(handed_back_.get());
  }

  /// What the way back gives to a server that runs here is what that has.
  bool compare_given() {
    if (handed_back_ == nullptr) return true;
    for (const auto& name : handed_back_->given()) {
      const auto runs = find_server(name);
      const auto given = handed_back_->find_given(name);
      if (!runs || !*runs) {
        note(name + " is given a state on the way back, and does not run now: there is nothing to compare it with");
        continue;
      }
      migration::archive_buffer has;
      migration::archive_buffer gets;
      text_buffer text;
      const bool saved = has.save(*(*runs)->schema, (*runs)->object, text) == MOLT_OK &&
                         (given->object == nullptr || gets.save(*given->schema, given->object, text) == MOLT_OK);
      const auto bytes = given->object == nullptr ? given->archive : gets.bytes();
      if (!saved) {
        fail(rehearsal_stage::comparing, "archive of " + name, text_of(text));
        return false;
      }
      const auto found = migration::compare_archives(*(*runs)->schema, has.bytes(), bytes);
      if (found.found == likeness::same || found.found == likeness::unclear) continue;
      const std::string type{board_.type.get()};
      if (!task_.losses.empty() && loses(type)) continue;
      fail(rehearsal_stage::comparing, "there and back",
           "what is given back to " + name + " is not what it has: " + found.text);
      return false;
    }
    return true;
  }

  static void step_begins(const migration::path_step* step, void* with) noexcept {
    auto& self = *static_cast<rehearser*>(with);
    if (step == self.step_ && step != nullptr) return;
    self.step_ = step;
    try {
      self.board_.step.set(step == nullptr ? "self_check" : step->text());
    } catch (const std::bad_alloc&) {
      self.board_.step.set({});
    }
  }

  void set(rehearsal_stage stage) noexcept { board_.stage = static_cast<std::uint32_t>(stage); }

  void begin(const servers::resting_server& server) {
    server_ = shown_name(server);
    board_.server.set(server_);
    board_.type.set(server.type().name());
    board_.step.set({});
    step_ = nullptr;
  }

  known_type& entry_of(const servers::server_type& type) {
    const auto found = entries_.find(&type);
    if (found != entries_.end()) return found->second;
    const auto at = std::min<std::size_t>(board_.types, rehearsal_types_max - 1);
    auto& made = board_.type_of[at];
    board_.types = static_cast<std::uint32_t>(at) + 1;
    const auto path = next_->path_for(type);
    const auto* const to = next_->find_type(type.name());
    const auto back = to != nullptr ? back_->path_for(*to) : path;
    const auto keeps = [](const auto& each) { return each && *each != nullptr && (*each)->steps.empty(); };
    if (at + 1 == rehearsal_types_max) {
      made.type.set("others");
    } else {
      made.type.set(type.name());
      if (path && *path != nullptr) {
        made.way = static_cast<std::uint32_t>((*path)->way);
        made.steps.set(joined((*path)->step_texts()));
      }
    }
    const bool undone_by_archive = path && *path != nullptr && to->abi().self_check == nullptr &&
                                   (*path)->needs_archive_to_revert() && !(*path)->needs_archive_to_undo();
    const known_type known{&made, keeps(path) && (task_.one_way || keeps(back)), undone_by_archive};
    return entries_.emplace(&type, known).first->second;
  }

  void fail_type(entry& of) noexcept { ++of.failed; }

  void fail(rehearsal_stage stage, std::string_view hook, std::string_view error) noexcept {
    if (board_.failed < rehearsal_failures_max) {
      auto& to = board_.failure[board_.failed];
      to.server.set(server_);
      to.type.set(board_.type.get());
      to.stage = static_cast<std::uint32_t>(stage);
      to.hook.set(hook);
      to.error.set(error);
    }
    ++board_.failed;
  }

  bool archive(const servers::resting_server& server, migration::archive_buffer& to, rehearsal_stage stage) {
    set(stage);
    text_buffer text;
    const auto& schema = *server.type().abi().state;
    if (to.save(schema, server.state(), text) == MOLT_OK) return true;
    const auto said = text_of(text);
    fail(stage, "archive of " + std::string{schema.name}, said.empty() ? "no memory for the archive" : said);
    return false;
  }

  std::optional<std::chrono::nanoseconds> move(servers::resting_server& server, const bound_release& to,
                                               rehearsal_stage stage) {
    set(stage);
    const auto failed = to.failed();
    const bool back = &to == back_.get();
    if (handed_ != nullptr) (back ? handed_back_ : handed_)->clear();
    const auto begun = clock::now();
    if (!back && task_.one_way && uses_others_)  // others are to see it as it was
      (void)to.adopt_revertibly(server, undo_);
    else
      to.adopt(server);
    const auto took = clock::now() - begun;
    to.destroy_old_states();
    if (to.failed() == failed) return took;
    const auto all = to.failures();
    if (all.empty())
      fail(stage, {}, "out of memory");
    else
      fail(stage, all.back().hook, all.back().error);
    return std::nullopt;
  }

  void count(entry& of, std::chrono::nanoseconds took, std::int64_t memory, bool sampled) noexcept {
    of.total_ns += took.count();
    of.largest_ns = std::max(of.largest_ns, took.count());
    of.times.add(took);
    if (!sampled) return;
    if (took > large) {
      of.memory_of_large += memory;
      ++of.large;
    } else {
      of.memory_sampled += memory;
      ++of.memory_samples;
    }
  }

  /// A state that is kept has not been checked on the way.
  bool check_kept(const servers::resting_server& server, const servers::server_type& before) {
    auto* const check = server.type().abi().self_check;
    const auto path = next_->path_for(before);
    if (check == nullptr || !path || *path == nullptr || !(*path)->steps.empty()) return true;
    step_begins(nullptr, this);
    text_buffer text;
    if (check(server.state(), &text) == MOLT_OK) return true;
    fail(rehearsal_stage::migrating, "self_check", text_of(text));
    return false;
  }

  /// All those of evolving containers, which in an upgrade are converted later, and do not count as its pause.
  bool convert_entries(const servers::resting_server& server) {
    const auto& type = server.type().abi();
    if (type.evolve == nullptr) return true;
    const std::string step = std::string{"entries of "} + type.state->name;
    board_.step.set(step);
    step_ = nullptr;
    for (std::uint64_t left = 1; left != 0;) {
      text_buffer text;
      if (type.evolve(server.state(), 0, std::chrono::nanoseconds{entries_slice}.count(), &left, &text) == MOLT_OK)
        continue;
      fail(rehearsal_stage::migrating, step, text_of(text));
      return false;
    }
    return true;
  }

  bool compare(const servers::resting_server& server) {
    after_.clear();
    if (!archive(server, after_, rehearsal_stage::comparing)) return false;
    const auto found = migration::compare_archives(*server.type().abi().state, before_.bytes(), after_.bytes());
    if (found.found == likeness::same) return true;
    const std::string type{server.type().name()};
    if (found.found == likeness::unclear) return ++unclear_[type] != 0;
    if (!task_.losses.empty() && loses(type)) return ++lossy_[type] != 0;
    fail(rehearsal_stage::comparing, "there and back", "the state is not the one it was: " + found.text);
    return false;
  }

  /// Whether the way back of that type declares a loss.
  [[nodiscard]] bool loses(const std::string& type) const {
    const auto* const from = next_->find_type(type);
    if (from == nullptr) return false;
    const auto path = back_->path_for(*from);
    return path && *path != nullptr && !(*path)->losses().empty();
  }

  /// The first time round a container may get another capacity; what grows every time after that is lost.
  void look_for_leaks(servers::resting_server& server, entry& of) {
    if (leaks_[&of]) return;
    auto least = std::numeric_limits<std::int64_t>::max();
    std::int64_t heap = 0;
    for (unsigned round = 0; round < rounds_for_leaks && least > 0; ++round) {
      if (!move(server, *next_, rehearsal_stage::migrating) || !move(server, *back_, rehearsal_stage::going_back))
        return fail_type(of);
      const auto now = heap_in_use();
      if (round != 0) least = std::min(least, now - heap);
      heap = now;
    }
    if (least <= 0) return;
    leaks_[&of] = true;
    note(server_ + ": there and back leaks " + std::to_string(least) + " bytes each time (" +
         std::string{of.steps.get()} + ", and back)");
  }

  [[nodiscard]] const std::vector<servers::recorded_message>* recorded_of(const servers::resting_server& server) const {
    const auto found = task_.recorded.find(server.ref().bits);
    return found == task_.recorded.end() ? nullptr : &found->second;
  }

  /// Handles them on a copy of the state, by the code that the server has now. Ends where the server would.
  std::vector<replayed> play(const servers::resting_server& server, const servers::server_type& senders,
                             const std::vector<servers::recorded_message>& recorded) {
    set(rehearsal_stage::replaying);
    board_.step.set("copying its state");
    step_ = nullptr;
    std::vector<replayed> answers;
    migration::archive_buffer state;
    text_buffer text;
    if (state.save(*server.type().abi().state, server.state(), text) != MOLT_OK) return answers;
    replayer copy{server.type(), state.bytes(), server.ref()};
    if (!copy.is_ready()) note(server_ + " was not replayed: " + copy.why());
    for (const auto& message : recorded) {
      if (!copy.is_ready()) break;
      board_.step.set(message.message);
      answers.push_back(copy.handle(message, senders));
      if (answers.back().handled && answers.back().status != MOLT_OK) break;
    }
    return answers;
  }

  void compare_replies(const std::vector<servers::recorded_message>& recorded, const std::vector<replayed>& before,
                       const std::vector<replayed>& after, const servers::server_type& later) {
    const auto both = std::min(before.size(), after.size());
    board_.not_replayed += recorded.size() - both;
    std::uint64_t here = 0;
    for (std::size_t n = 0; n < both; ++n) {
      if (!before[n].handled) {
        ++board_.not_replayed;
        continue;
      }
      ++here;
      const std::string text = difference_of(before[n], after[n], later);
      if (text.empty()) continue;
      if (board_.differed < rehearsal_differences_max) {
        auto& to = board_.difference[board_.differed];
        to.server.set(server_);
        to.message.set(recorded[n].message.empty() ? "data" : recorded[n].message);
        to.text.set(text);
      }
      ++board_.differed;
    }
    board_.replayed += here;
    if (here != 0) ++board_.replayed_servers;
  }

  void note(std::string_view text) noexcept {
    if (board_.notes < rehearsal_notes_max) board_.note[board_.notes++].set(text);
  }

  servers::runtime& runtime_;
  const servers::runtime::rest_guard& rest_;
  const rehearsal_task& task_;
  rehearsal_board& board_;
  std::shared_ptr<const bound_release> next_;
  std::shared_ptr<const bound_release> back_;
  std::shared_ptr<handed_states> handed_;  // null: no hook uses the states of other servers
  std::shared_ptr<handed_states> handed_back_;
  bool uses_others_ = false;                 // on the way there
  std::optional<bound_release::move> undo_;  // if there is no other way back
  std::vector<std::string> leaving_;
  std::string server_;
  const migration::path_step* step_ = nullptr;
  migration::archive_buffer before_;
  migration::archive_buffer after_;
  std::unordered_map<const servers::server_type*, known_type> entries_;
  std::unordered_map<const entry*, bool> leaks_;
  std::unordered_map<std::string, std::uint64_t> unclear_;
  std::unordered_map<std::string, std::uint64_t> lossy_;
};

}  // namespace

void rehearse(servers::runtime& runtime, const servers::runtime::rest_guard& rest, release_content next,
              const rehearsal_task& task, rehearsal_board& board) {
  share_loaded_plugins(task.loaded, next);
  rehearser all{runtime, rest, std::move(next), task, board};
  runtime.for_each(rest, 0, 1, [&](servers::resting_server& server) { all.visit(server); });
  all.finish();
}

}  // namespace molt::upgrade
