#include "base/demangle.hpp"
#include "loader/address_reserve.hpp"
#include "loader/evidence_board.hpp"
#include "loader/heap_blocks.hpp"
#include "loader/process_memory.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <exception>
#include <set>
#include <utility>

namespace molt::loader::evidence_copy {
namespace {

using clock = std::chrono::steady_clock;

constexpr int niceness = 5;
constexpr std::size_t words_at_first = 4096;
constexpr std::size_t words_max = std::size_t{1} << 20U;  // that are remembered; more are as good as held
constexpr std::uintptr_t red_zone = 128;                  // below a stack's end, and in use
constexpr std::uintptr_t unwinding_tables_at_most = std::uintptr_t{1} << 30U;  // from where an image begins
constexpr unsigned steps_max = 5;
constexpr std::size_t reverse_words_max = 4096;
constexpr std::chrono::seconds naming_time_max{3};
constexpr std::size_t words_described = 8;  // of a block beside a holder

/// A word that points into a range. Inverted, as are all addresses kept here: what is looked for next may be what
/// points to this.
struct word_hit {
  std::uintptr_t inverted_at;
  std::uint32_t range;
};

struct place_found {
  bool dead = false;
  holder_place place = holder_place::other;
  std::uintptr_t inverted_begin = 0;  ///< of the block, or the word itself
  std::size_t size = 0;
  std::string where;
  // Of a heap's block: those in use next to it, or 0.
  std::uintptr_t inverted_before = 0;
  std::uintptr_t inverted_after = 0;
};

struct candidate {
  std::uint32_t image = 0;
  std::uint32_t words = 0;
  place_found found;
  std::vector<std::uintptr_t> inverted_pointees;
  std::uintptr_t inverted_at = 0;
  std::string server;
  unsigned steps = 0;
  bool resolved = false;
};

/// By candidate, inverted.
using followed_blocks = std::set<std::pair<std::size_t, std::uintptr_t>>;

struct wanted_block {
  std::size_t of;  // candidate
  hidden_range range;
};

/// What of a block that is ours lies behind what we use of it is what others have left there: malloc overwrites
/// neither.
template <class Items>
void overwrite_slack(Items& items) noexcept {
  if (items.capacity() == 0) return;
  auto* const begin = reinterpret_cast<char*>(items.data());
  const std::size_t used = items.size() * sizeof *items.data();
  const std::size_t whole = ::malloc_usable_size(begin);
  if (whole > used) std::memset(begin + used, 0, whole - used);
}
void overwrite_slack(std::string& text) noexcept {
  constexpr std::size_t without_block = 15;  // of libstdc++'s
  if (text.capacity() > without_block) {
    const std::size_t whole = ::malloc_usable_size(text.data());
    std::memset(text.data() + text.size(), 0, whole - text.size());
  }
}

/// For what points to a block. Its last word may be the first of the next one's header, to which malloc points.
hidden_range range_of(const place_found& block) {
  constexpr std::size_t word = sizeof(std::uintptr_t);
  const std::uintptr_t begin = ~block.inverted_begin;
  return {begin, begin + (block.size > word ? block.size - word : block.size)};
}

class searcher {
 public:
  searcher(told& given, const memory_facts& facts) : told_{given}, facts_{facts} {}
  void run();

 private:
  struct scanning {
    const searcher* owner;
    std::vector<word_hit>* hits;
    std::size_t most;
  };
  void close_images();
  void overwrite_own_slack() noexcept;
  [[nodiscard]] bool looked_through(const mapping&) const;
  bool scan(std::span<const hidden_range>, std::size_t most, std::vector<word_hit>&);
  void make_room();
  void locate(const std::vector<word_hit>&);
  std::vector<place_found> places_of(const std::vector<word_hit>&, std::span<const hidden_range>);
  /// Where one mapping ends, the image may have begun.
  [[nodiscard]] bool is_own(std::uintptr_t at) const noexcept {
    const auto begin = reinterpret_cast<std::uintptr_t>(maps_.data());
    return at >= begin && at < begin + maps_.capacity() * sizeof(mapping);
  }
  [[nodiscard]] bool is_linkers(std::uintptr_t at, const hidden_range&) const;
  [[nodiscard]] bool find_on_stack(std::uintptr_t at, const mapping&, place_found&) const;
  [[nodiscard]] static bool is_guard(const mapping& below);
  [[nodiscard]] std::string where(const mapping&, holder_place&) const;
  void add(const word_hit&, place_found, std::vector<candidate>&) const;
  void name_servers(std::vector<candidate>&);
  [[nodiscard]] const owned_memory* owner_of(const place_found&) const;
  bool resolve(candidate&, const place_found&, unsigned steps) const;
  std::vector<wanted_block> step(std::vector<candidate>&, const std::vector<wanted_block>&, unsigned steps,
                                 followed_blocks& seen);
  [[nodiscard]] std::string beside(const place_found&) const;
  [[nodiscard]] std::string describe(std::uintptr_t block) const;
  void write(const std::vector<candidate>&) const;

  told& told_;
  const memory_facts& facts_;
  std::vector<mapping> maps_;
  resident_pages pages_;
  std::vector<owned_memory> owned_;
  std::vector<word_hit> hits_;
  std::vector<std::uintptr_t> addresses_;  // of hits, while blocks are located
  std::vector<heap_block> blocks_;         // the same
  std::uint64_t bytes_ = 0;
};

void searcher::close_images() {
  told_.to->now = stage::closing;
  for (std::size_t i = 0; i < told_.images.size(); ++i) {
    told_.to->image = static_cast<std::uint32_t>(i);
    told_.to->images[i].still_mapped.set(close_in_copy(*told_.images[i]));
  }
}

bool searcher::looked_through(const mapping& each) const {
  const auto board = reinterpret_cast<std::uintptr_t>(told_.to);
  if (!each.readable || !each.writable || each.contains(board)) return false;
  return !each.shared || each.path.starts_with("/dev/zero");  // a file may be shorter than its mapping
}

/// False: there are more than `most`.
bool searcher::scan(std::span<const hidden_range> ranges, std::size_t most, std::vector<word_hit>& hits) {
  scanning with{this, &hits, most};
  bool all = true;
  for (const auto& each : maps_) {
    if (!looked_through(each) || !all) continue;
    pages_.visit(each.begin, each.end, [&](std::uintptr_t from, std::uintptr_t to) {
      bytes_ += to - from;
      const std::span words{reinterpret_cast<const std::uintptr_t*>(from), (to - from) / sizeof(std::uintptr_t)};
      all = all &&
            scan_words(
                words, ranges,
                [](const std::uintptr_t* at, std::size_t range, void* opaque) {
                  auto& found = *static_cast<scanning*>(opaque);
                  found.hits->push_back({~reinterpret_cast<std::uintptr_t>(at), static_cast<std::uint32_t>(range)});
                  return found.hits->size() < found.most;
                },
                &with);
    });
  }
  return all;
}

/// What the linker keeps of a closed image in its tables for the unwinder: begin, an end that equals it, a null or
/// stale link map, and where the unwinding tables were. Of the two tables the one that it does not use now still has
/// the end. That of an image which lay here before may be there, too.
bool searcher::is_linkers(std::uintptr_t at, const hidden_range& image) const {
  constexpr std::uintptr_t word = sizeof(std::uintptr_t);
  const auto entry_at = [&](std::uintptr_t entry) {
    const mapping* const in = find_mapping(maps_, entry);
    if (in == nullptr || !in->contains(entry + 4 * word - 1)) return false;
    const auto* const words = reinterpret_cast<const std::uintptr_t*>(entry);
    const bool ends = words[1] == words[0] || (words[0] == image.begin() && words[1] == image.begin() + image.size());
    return ends && words[0] % page_size() == 0 && words[3] - words[0] < unwinding_tables_at_most;
  };
  return entry_at(at) || entry_at(at - word) || entry_at(at - 3 * word);
}

bool searcher::find_on_stack(std::uintptr_t at, const mapping& in, place_found& made) const {
  for (const auto& stack : told_.stacks) {
    if (!in.contains(stack.pointer) && !in.contains(stack.inside)) continue;
    made.place = holder_place::stack;
    made.dead = in.contains(stack.pointer) && at < stack.pointer - red_zone;
    made.where = "thread " + std::to_string(stack.thread) + " (" + stack.name + ")";
    return true;
  }
  return false;
}

/// Whether what lies right above is a stack. Where an image was is as unreadable, and one mapping with a guard, or with
/// other unreadable memory, that it touches.
bool searcher::is_guard(const mapping& below) {
  constexpr std::size_t pages_max = 64;
  if (below.readable || below.writable || !below.path.empty()) return false;
  std::size_t pages = 0;
  for (std::uintptr_t at = below.end; at > below.begin && pages <= pages_max && !is_reserved(at - 1); at -= page_size())
    ++pages;
  return pages > 0 && pages <= pages_max;
}

/// Data of an image, a stack by the guard below it, or whatever it is.
std::string searcher::where(const mapping& in, holder_place& place) const {
  const mapping* const below = in.begin == 0 ? nullptr : find_mapping(maps_, in.begin - 1);
  if (in.path.starts_with("/") && !in.shared) {
    place = holder_place::image;
    return in.path;
  }
  if (in.path == "[stack]") place = holder_place::stack;
  if (!in.path.empty()) return in.path;
  if (below != nullptr && below->path.starts_with("/")) {
    place = holder_place::image;
    return below->path;
  }
  if (below != nullptr && is_guard(*below)) {
    place = holder_place::stack;  // kept for a thread to come, if no thread stands on it
    return told_.all_stacks_known ? std::string{} : "a thread of which nothing is known";
  }
  return "memory of no file";
}

/// Of each hit. Nothing is allocated before that is known: a block that is free now, with what was found in it, would
/// be given out again.
void searcher::locate(const std::vector<word_hit>& hits) {
  addresses_.clear();
  blocks_.resize(hits.size());
  for (const auto& hit : hits) addresses_.push_back(~hit.inverted_at);
  heap_blocks{maps_}.locate(addresses_, [this](std::size_t n, const heap_block& block) { blocks_[n] = block; });
  // Inverted as well: what is looked for next may be a block that is named here.
  for (auto& address : addresses_) address = 0;
}

void searcher::make_room() {
  hits_.reserve(words_at_first);
  addresses_.reserve(words_at_first);
  blocks_.reserve(words_at_first);
  overwrite_slack(hits_);
  overwrite_slack(addresses_);
  overwrite_slack(blocks_);
}

std::vector<place_found> searcher::places_of(const std::vector<word_hit>& hits, std::span<const hidden_range> ranges) {
  locate(hits);
  std::vector<place_found> made(hits.size());
  for (std::size_t i = 0; i < hits.size(); ++i) {
    const std::uintptr_t at = ~hits[i].inverted_at;
    place_found& one = made[i];
    one.inverted_begin = hits[i].inverted_at;
    one.size = sizeof at;
    const mapping* const in = find_mapping(maps_, at);
    if (in == nullptr) continue;
    one.dead = is_own(at) || (ranges.data() == told_.ranges.data() && is_linkers(at, ranges[hits[i].range]));
    if (one.dead || find_on_stack(at, *in, one)) continue;
    if (const heap_block& block = blocks_[i]; block.state != heap_block::kind::unknown) {
      one.dead = block.state == heap_block::kind::freed;
      one.place = holder_place::heap;
      one.where = "heap";
      one.inverted_begin = ~block.begin;
      one.size = block.size;
      if (block.before != 0) one.inverted_before = ~block.before;
      if (block.after != 0) one.inverted_after = ~block.after;
    } else {
      one.where = where(*in, one.place);
      one.dead = one.where.empty();
    }
  }
  for (auto& block : blocks_) block = {};
  return made;
}

void searcher::add(const word_hit& hit, place_found found, std::vector<candidate>& to) const {
  const std::uintptr_t target = *reinterpret_cast<const std::uintptr_t*>(~hit.inverted_at);
  board_image& image = told_.to->images[hit.range];
  ++image.words;
  if (found.place == holder_place::stack) ++image.words_on_stacks;
  // Words of a block come one after the other; so do those of a stack, which are told as one.
  const auto same = std::find_if(to.rbegin(), to.rend(), [&](const candidate& each) {
    return each.image == hit.range && each.found.place == found.place &&
           (each.found.inverted_begin == found.inverted_begin ||
            (found.place != holder_place::heap && each.found.where == found.where));
  });
  candidate* of = same == to.rend() ? nullptr : &*same;
  if (of == nullptr) {
    to.push_back({hit.range, 0, std::move(found), {}, hit.inverted_at, {}, 0, false});
    of = &to.back();
  }
  ++of->words;
  auto& known = of->inverted_pointees;
  if (known.size() < pointees_max && std::find(known.begin(), known.end(), ~target) == known.end())
    known.push_back(~target);
}

const owned_memory* searcher::owner_of(const place_found& block) const {
  const std::uintptr_t begin = ~block.inverted_begin;
  const auto found = std::lower_bound(owned_.begin(), owned_.end(), begin,
                                      [](const owned_memory& each, std::uintptr_t at) { return each.begin < at; });
  return found != owned_.end() && found->begin < begin + block.size ? &*found : nullptr;
}

bool searcher::resolve(candidate& each, const place_found& block, unsigned steps) const {
  const owned_memory* const owner = owner_of(block);
  if (owner == nullptr) return false;
  each.server = facts_.name ? facts_.name(owner->owner) : std::to_string(owner->owner);
  each.steps = steps;
  return each.resolved = true;
}

std::vector<wanted_block> searcher::step(std::vector<candidate>& all, const std::vector<wanted_block>& wanted,
                                         unsigned steps, followed_blocks& seen) {
  std::vector<hidden_range> ranges;
  for (const auto& each : wanted) ranges.push_back(each.range);
  std::vector<word_hit> hits;
  (void)scan(ranges, reverse_words_max, hits);
  const auto places = places_of(hits, ranges);
  std::vector<wanted_block> next;
  const auto unresolved = static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](const candidate& each) {
    return !each.resolved && each.found.place == holder_place::heap;
  }));
  const std::size_t next_blocks_max = scan_ranges_max / std::max<std::size_t>(1, std::min(unresolved, scan_ranges_max));
  for (std::size_t i = 0; i < hits.size(); ++i) {
    candidate& of = all[wanted[hits[i].range].of];
    const place_found& found = places[i];
    if (found.dead || of.resolved || resolve(of, found, steps)) continue;
    if (found.place != holder_place::heap) {
      if (of.found.place == holder_place::heap && of.found.where == "heap")
        of.found.where = "heap, reached from " + found.where;
      continue;
    }
    const auto queued = static_cast<std::size_t>(
        std::count_if(next.begin(), next.end(), [&](const auto& one) { return &all[one.of] == &of; }));
    if (queued < next_blocks_max && next.size() < scan_ranges_max &&
        seen.emplace(wanted[hits[i].range].of, found.inverted_begin).second)
      next.push_back({wanted[hits[i].range].of, range_of(found)});
  }
  return next;
}

/// From each holder backwards, block by block, until one is a server's state.
void searcher::name_servers(std::vector<candidate>& all) {
  told_.to->now = stage::naming;
  if (facts_.owned) owned_ = facts_.owned();
  std::sort(owned_.begin(), owned_.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  const auto until = clock::now() + naming_time_max;
  std::vector<wanted_block> wanted;
  followed_blocks seen;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].found.place != holder_place::heap || resolve(all[i], all[i].found, 0)) continue;
    seen.emplace(i, all[i].found.inverted_begin);
    if (wanted.size() < scan_ranges_max) wanted.push_back({i, range_of(all[i].found)});
  }
  for (unsigned steps = 1; steps <= steps_max && !wanted.empty() && clock::now() < until; ++steps)
    wanted = step(all, wanted, steps, seen);
}

/// A block that is likely to have been allocated by the same code: whose state it is, or what its first words lead to.
/// Never what stands in it, which may be a secret.
std::string searcher::describe(std::uintptr_t block) const {
  place_found as_place;
  as_place.inverted_begin = ~block;
  as_place.size = ::malloc_usable_size(reinterpret_cast<void*>(block));
  std::string made = std::to_string(as_place.size) + " bytes";
  if (const owned_memory* const owner = owner_of(as_place); owner != nullptr)
    return made + " of the state of the server " +
           (facts_.name ? facts_.name(owner->owner) : std::to_string(owner->owner));
  const auto* const words = reinterpret_cast<const std::uintptr_t*>(block);
  for (std::size_t i = 0; i < std::min(as_place.size / sizeof *words, words_described); ++i) {
    const mapping* const in = find_mapping(maps_, words[i]);
    if (in == nullptr || !in->path.starts_with('/')) continue;
    Dl_info known{};
    if (::dladdr(reinterpret_cast<const void*>(words[i]), &known) == 0 || known.dli_sname == nullptr)
      return made + " pointing into " + in->path.substr(in->path.rfind('/') + 1);
    return made + " pointing to " + demangle(known.dli_sname);
  }
  return made;
}

std::string searcher::beside(const place_found& found) const {
  std::string made;
  if (found.inverted_before != 0) made = "behind " + describe(~found.inverted_before);
  if (found.inverted_after != 0) made += (made.empty() ? "before " : ", before ") + describe(~found.inverted_after);
  return made;
}

void searcher::write(const std::vector<candidate>& all) const {
  for (const auto& each : all) {
    board_image& image = told_.to->images[each.image];
    if (image.holders == image.holder.size()) continue;
    board_holder& to = image.holder[image.holders++];
    to.at = ~each.inverted_at;
    to.size = each.found.size;
    to.place = static_cast<std::uint32_t>(each.found.place);
    to.steps = each.steps;
    to.where.set(each.found.where);
    to.server.set(each.server);
    if (each.server.empty() && each.found.place == holder_place::heap) to.beside.set(beside(each.found));
    for (const auto inverted : each.inverted_pointees) to.pointee[to.pointees++] = ~inverted;
  }
}

void searcher::overwrite_own_slack() noexcept {
  overwrite_slack(told_.images);
  overwrite_slack(told_.ranges);
  overwrite_slack(told_.stacks);
  for (auto& each : told_.stacks) overwrite_slack(each.name);
  overwrite_slack(maps_);
  for (auto& each : maps_) overwrite_slack(each.path);
}

void searcher::run() {
  close_images();
  overwrite_freed_memory();  // what was freed there lies in this thread's tcache as it was
  told_.to->now = stage::scanning;
  (void)::close_range(3, ~0U, 0);
  if (facts_.forget_free) facts_.forget_free();
  free_small_blocks();
  auto maps = read_mappings();
  if (!maps) return told_.to->failure.set(maps.error().text());
  maps_ = std::move(*maps);
  overwrite_own_slack();
  const auto begun = clock::now();
  make_room();
  const bool all = scan(told_.ranges, words_max, hits_);
  told_.to->scan_ns = std::chrono::nanoseconds{clock::now() - begun}.count();
  told_.to->scanned_bytes = bytes_;
  auto places = places_of(hits_, told_.ranges);
  std::vector<candidate> found;
  for (std::size_t i = 0; i < hits_.size(); ++i)
    if (!places[i].dead) add(hits_[i], std::move(places[i]), found);
  if (!all)
    for (std::size_t i = 0; i < told_.images.size(); ++i) ++told_.to->images[i].words;
  if (!found.empty()) name_servers(found);
  write(found);
  for (std::size_t i = 0; i < told_.images.size(); ++i) told_.to->images[i].looked = 1;
  told_.to->now = stage::done;
}

void limit_to(int which, std::uint64_t most) noexcept {
  rlimit now{};
  if (::getrlimit(static_cast<__rlimit_resource>(which), &now) != 0) return;
  now.rlim_cur = std::min<rlim_t>(most, now.rlim_max);
  (void)::setrlimit(static_cast<__rlimit_resource>(which), &now);
}

void set_up(const told& given) noexcept {
  (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != given.parent) ::_exit(exit_failed);
  (void)::setpgid(0, 0);
  (void)::prctl(PR_SET_NAME, "molt-evidence");
  for (int signal = 1; signal < NSIG; ++signal) (void)::signal(signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  (void)::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  limit_to(RLIMIT_CORE, 0);
  (void)::setpriority(PRIO_PROCESS, 0, niceness);
  // A plugin's destructors may print.
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3 && nothing >= 0; ++fd) (void)::dup2(nothing, fd);
  (void)std::atexit([] { ::_exit(exit_failed); });
}

}  // namespace

void work(told& given, const memory_facts& facts) noexcept {
  set_up(given);
  try {
    searcher{given, facts}.run();
  } catch (const std::exception& thrown) {
    given.to->failure.set(thrown.what());
  }
  ::_exit(given.to->now.load() == stage::done ? exit_done : exit_failed);
}

}  // namespace molt::loader::evidence_copy
