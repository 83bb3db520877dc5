#include "loader/plugin_image.hpp"

#include "base/assert.hpp"
#include "loader/address_reserve.hpp"
#include "loader/elf_image.hpp"
#include "loader/image_file.hpp"
#include "loader/image_findings.hpp"
#include "loader/image_symbols.hpp"
#include "loader/plugin_table.hpp"

#define BOOST_DLL_USE_STD_FS
#include <boost/dll/shared_library.hpp>

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <link.h>
#include <malloc.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <exception>
#include <mutex>
#include <system_error>
#include <utility>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MOLT_KEEPS_IMAGES 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define MOLT_KEEPS_IMAGES 1
#endif
#endif
#ifndef MOLT_KEEPS_IMAGES
#define MOLT_KEEPS_IMAGES 0
#endif

namespace molt::loader {
namespace detail {

struct image_parts {
  image_file file;
  inspection facts;
  bound_table bound;
  std::string path;  ///< by which the linker knows it
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  std::uint64_t first_address = 0;
  std::uint64_t end_address = 0;
  bool thread_local_storage = false;
  std::unique_ptr<tripwire> wire;      // under the registry's mutex
  boost::dll::shared_library library;  // last: closed before its file
};

}  // namespace detail

namespace {

using detail::image_parts;

struct mapped_image {
  image_parts* parts = nullptr;  // of `image`, as long as that lives
  std::string build_id;
  std::string plugin;
  std::filesystem::path path;
  std::span<const std::byte> bytes;
  std::weak_ptr<const plugin_image> image;
};

struct resident_image {
  std::unique_ptr<image_parts> parts;
  std::string why;
};

// Every image of this process: those with leases, and those that were closed and stayed. Guarded by its mutex, which is
// also held while the linker loads and unloads, so that the check afterwards sees the result of its own unload.
struct image_registry {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<mapped_image> mapped;
  std::vector<resident_image> resident;
};

// Never destroyed: leases may outlive static destruction.
image_registry& registry() {
  static auto* const made = new image_registry;
  return *made;
}

std::string plugin_words(const inspection& facts) { return facts.plugin.name + " " + facts.plugin.version; }

bool same_bytes(std::span<const std::byte> one, std::span<const std::byte> other) {
  return one.size() == other.size() && std::memcmp(one.data(), other.data(), one.size()) == 0;
}

// Leaves nothing loaded when it fails.
result<void> open_library(image_parts& parts) {
  const std::string name = parts.facts.path.string();
  parts.path = parts.file.load_path();
  std::error_code failed;
  // A constructor that throws ends the process here: no exception passes through the linker. A rehearsal finds it.
  parts.library.load(parts.path, boost::dll::load_mode::rtld_now | boost::dll::load_mode::rtld_local, failed);
  if (failed) {
    const char* said = ::dlerror();
    std::string text = said == nullptr ? failed.message() : said;
    if (const auto at = text.find(parts.path); at != std::string::npos)
      text.replace(at, parts.path.size(), "the linker");
    return error{reason::io, name + ": cannot be loaded: " + text,
                 "a plugin may use the host's libstdc++ and libc, and nothing else of it"};
  }
  link_map* map = nullptr;
  if (::dlinfo(parts.library.native(), RTLD_DI_LINKMAP, &map) != 0 || map == nullptr)
    return error{reason::internal, name + ": the linker does not say where it is"};
  parts.begin = static_cast<std::uintptr_t>(map->l_addr + parts.first_address);
  parts.end = static_cast<std::uintptr_t>(map->l_addr + parts.end_address);
  return ok();
}

result<void> take_table(image_parts& parts) {
  const std::string name = parts.facts.path.string();
  const auto function = reinterpret_cast<molt_plugin_function>(::dlsym(parts.library.native(), MOLT_PLUGIN_SYMBOL));
  // dlsym also searches the libraries that the plugin needs.
  const auto address = reinterpret_cast<std::uintptr_t>(function);
  if (address < parts.begin || address >= parts.end)
    return error{reason::refused, name + ": its " MOLT_PLUGIN_SYMBOL " is not its own"};
  const molt_plugin_table* table = nullptr;
  try {
    table = function();
  } catch (const std::exception& thrown) {
    return error{reason::refused, name + ": " MOLT_PLUGIN_SYMBOL "() threw: " + std::string{thrown.what()}};
  } catch (...) {
    return error{reason::refused, name + ": " MOLT_PLUGIN_SYMBOL "() threw"};
  }
  auto bound = bind_table(table, parts.facts.plugin);
  if (!bound) return std::move(bound).error().with(name);
  parts.bound = std::move(*bound);
  return ok();
}

// glibc 2.34 to 2.36 may crash when a library with thread-local storage is closed (dd-trace-dotnet PR#7125).
bool closing_tls_is_unsafe() {
  int major = 0;
  int minor = 0;
  if (std::sscanf(::gnu_get_libc_version(), "%d.%d", &major, &minor) != 2) return false;
  return major == 2 && minor >= 34 && minor <= 36;
}

std::string reason_not_to_close(const image_parts& parts) {
  if (!unmaps_images()) return "this build has a sanitizer, whose reports need the image";
  if (parts.thread_local_storage && closing_tls_is_unsafe())
    return "it has thread-local storage, which glibc " + std::string{::gnu_get_libc_version()} + " cannot close safely";
  return {};
}

std::string probable_reason(const inspection& facts) {
  for (const auto& one : facts.findings)
    if (one.kind == finding_kind::no_delete || one.kind == finding_kind::thread_exit_handler ||
        one.kind == finding_kind::unique_symbol || one.kind == finding_kind::foreign_library)
      return "probably because it " + one.text;
  return "something else opened it too, or a thread-local destructor of its code is still to run";
}

// Empty if the image is gone.
std::string still_mapped_because(const image_parts& parts) {
  void* found = ::dlopen(parts.path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (found != nullptr) {
    ::dlclose(found);
    return "the linker still has it, " + probable_reason(parts.facts);
  }
  const auto mapped = parts.file.mapped_elsewhere();
  if (!mapped) return "whether it is gone cannot be told: " + mapped.error().message();
  if (*mapped) return "its memory is still mapped, " + probable_reason(parts.facts);
  return {};
}

// With the registry locked. What stays becomes a resident.
unload_report close_image(image_registry& images, std::unique_ptr<image_parts> parts) {
  parts->wire.reset();  // its destructors run
  unload_report report;
  report.plugin = plugin_words(parts->facts);
  report.build_id = parts->facts.build_id;
  report.why = reason_not_to_close(*parts);
  if (report.why.empty()) {
    parts->library.unload();  // says nothing about its result
    report.why = still_mapped_because(*parts);
  }
  report.unmapped = report.why.empty();
  if (report.unmapped) reserve_addresses(parts->begin, parts->end);
  std::erase_if(images.mapped,
                [&](const mapped_image& one) { return one.build_id == report.build_id && one.image.expired(); });
  if (!report.unmapped) images.resident.push_back({std::move(parts), report.why});
  images.changed.notify_all();
  return report;
}

lease register_image(image_registry& images, std::unique_ptr<image_parts> parts) {
  mapped_image entry{parts.get(),       parts->facts.build_id, plugin_words(parts->facts),
                     parts->facts.path, parts->file.bytes(),   {}};
  images.mapped.push_back(std::move(entry));
  lease made = std::make_shared<plugin_image>(std::move(parts));
  images.mapped.back().image = made;
  return made;
}

error same_build_id(const image_parts& parts, const std::filesystem::path& other) {
  return error{reason::already_exists,
               parts.facts.path.string() + ": has the build ID " + parts.facts.build_id + " of " + other.string() +
                   ", which is loaded and has other contents",
               "build IDs are made by the linker; do not change a plugin after linking it"};
}

// The same plugin loaded before, if it is there: with leases, or closed and kept.
result<lease> find_loaded(image_registry& images, std::unique_lock<std::mutex>& lock, const image_parts& parts) {
  const auto of_this_build = [&](const mapped_image& one) { return one.build_id == parts.facts.build_id; };
  for (;;) {
    const auto found = std::find_if(images.mapped.begin(), images.mapped.end(), of_this_build);
    if (found == images.mapped.end()) break;
    if (lease shared = found->image.lock()) {
      if (same_bytes(found->bytes, parts.file.bytes())) {
        found->parts->wire.reset();  // it is wanted again
        return shared;
      }
      // Let go of the lease only unlocked: it may have become the last.
      const std::filesystem::path other = found->path;
      lock.unlock();
      shared.reset();
      return same_build_id(parts, other);
    }
    images.changed.wait(lock);  // its last lease went, it is about to be closed
  }
  for (auto& kept : images.resident) {
    if (kept.parts->facts.build_id != parts.facts.build_id) continue;
    if (!same_bytes(kept.parts->file.bytes(), parts.file.bytes())) return same_build_id(parts, kept.parts->facts.path);
    std::unique_ptr<image_parts> again = std::move(kept.parts);
    images.resident.erase(images.resident.begin() + (&kept - images.resident.data()));
    const bool is_kept = again->library.is_loaded() && again->bound.table != nullptr;
    if (!again->library.is_loaded()) MOLT_CHECK(open_library(*again));
    if (!is_kept) MOLT_CHECK(take_table(*again));
    return register_image(images, std::move(again));
  }
  return lease{};
}

}  // namespace

// The parts of an image, for functions here that hold its last lease. It was made as a non-const object by
// register_image().
struct image_access {
  static std::unique_ptr<image_parts>& parts(const lease& of) { return const_cast<plugin_image&>(*of).parts_; }
  static std::unique_ptr<image_parts>& parts(const plugin_image& of) { return const_cast<plugin_image&>(of).parts_; }
};

bool unmaps_images() noexcept { return MOLT_KEEPS_IMAGES == 0; }

plugin_image::plugin_image(std::unique_ptr<image_parts> parts) noexcept : parts_{std::move(parts)} {}

plugin_image::~plugin_image() {
  if (parts_ == nullptr) return;
  image_registry& images = registry();
  const std::lock_guard lock{images.mutex};
  (void)close_image(images, std::move(parts_));
}

const inspection& plugin_image::facts() const noexcept { return parts_->facts; }
const molt_plugin_table& plugin_image::table() const noexcept { return *parts_->bound.table; }

const molt_server_type* plugin_image::find_server_type(std::string_view name) const noexcept {
  const auto* described = description().find_server_type(name);
  return described == nullptr ? nullptr : parts_->bound.server_types[described - description().server_types.data()];
}

namespace {
template <class Item>
const Item& at(const std::vector<const Item*>& items, std::uint32_t index) noexcept {
  MOLT_ASSERT(index < items.size(), index, items.size());
  return *items[index];
}
}  // namespace

const molt_server_type& plugin_image::server_type(std::uint32_t index) const noexcept {
  return at(parts_->bound.server_types, index);
}
const molt_schema& plugin_image::schema(std::uint32_t index) const noexcept { return at(parts_->bound.schemas, index); }
const molt_message& plugin_image::message(std::uint32_t index) const noexcept {
  return at(parts_->bound.messages, index);
}
const molt_edge& plugin_image::state_edge(std::uint32_t index) const noexcept {
  return at(parts_->bound.state_edges, index);
}

bool plugin_image::contains(const void* pointer) const noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  return address >= parts_->begin && address < parts_->end;
}

hidden_range plugin_image::range() const noexcept { return {parts_->begin, parts_->end}; }
std::span<const std::byte> plugin_image::file() const noexcept { return parts_->file.bytes(); }

std::string plugin_image::name_of(std::uintptr_t address) const {
  return name_address(parts_->file.bytes(), address - parts_->begin + parts_->first_address);
}

result<lease> load(const plugin_file& wanted) {
  const auto& path = wanted.path;
  auto parts = std::make_unique<image_parts>();
  MOLT_TRY(parts->file, image_file::open(wanted));
  {
    MOLT_TRY(const elf_image image, elf_image::parse(path, parts->file.bytes()));
    parts->facts = inspect_image(path, parts->file.bytes().size(), image);
    parts->first_address = image.first_address;
    parts->end_address = image.end_address;
    parts->thread_local_storage = image.thread_local_storage;
  }
  MOLT_CHECK(require_replaceable(parts->facts));
  if (parts->facts.machine != host_machine())
    return error{reason::incompatible, path.string() + ": is for " + parts->facts.machine + ", this machine is " +
                                           std::string{host_machine()}};

  image_registry& images = registry();
  std::unique_lock lock{images.mutex};
  MOLT_TRY(lease loaded, find_loaded(images, lock, *parts));
  if (loaded != nullptr) return loaded;
  MOLT_CHECK(open_library(*parts));
  if (auto table = take_table(*parts); !table) {
    (void)close_image(images, std::move(parts));
    return std::move(table).error();
  }
  return register_image(images, std::move(parts));
}

namespace {

// With the registry locked: load() makes no further lease meanwhile.
result<void> require_last(const lease& last) {
  if (last == nullptr) return error{reason::invalid_argument, "there is no image to unload"};
  if (const auto count = last.use_count(); count != 1)
    return error{reason::busy,
                 plugin_words(last->facts()) + " is still in use: " + std::to_string(count - 1) + " other leases",
                 "stop or migrate its servers first"};
  return ok();
}

}  // namespace

namespace {

result<unload_report> unload(lease& last, bool untouched_only) {
  image_registry& images = registry();
  const std::lock_guard lock{images.mutex};
  MOLT_CHECK(require_last(last));
  if (auto& wire = image_access::parts(last)->wire; wire != nullptr) {
    wire->disarm();
    if (wire->tripped()) return error{reason::busy, plugin_words(last->facts()) + " was used while it was unreadable"};
    wire.reset();
  } else if (untouched_only) {
    return error{reason::busy, plugin_words(last->facts()) + " has been loaded again meanwhile"};
  }
  auto parts = std::move(image_access::parts(last));
  last.reset();
  return close_image(images, std::move(parts));
}

}  // namespace

result<unload_report> unload(lease& last) { return unload(last, false); }
result<unload_report> unload_untouched(lease& last) { return unload(last, true); }

std::string cannot_close_because(const plugin_image& image) { return reason_not_to_close(*image_access::parts(image)); }

result<void> arm_tripwire(const lease& only) {
  image_registry& images = registry();
  const std::lock_guard lock{images.mutex};
  MOLT_CHECK(require_last(only));
  auto& parts = *image_access::parts(only);
  if (parts.wire != nullptr) return ok();
  auto armed = tripwire::arm(parts.begin, parts.end);
  if (!armed) return std::move(armed).error().with(plugin_words(parts.facts));
  parts.wire = std::move(*armed);
  return ok();
}

std::optional<trip> tripped(const lease& image) {
  const std::lock_guard lock{registry().mutex};
  const auto& wire = image_access::parts(image)->wire;
  return wire != nullptr ? wire->tripped() : std::nullopt;
}

result<void> keep(lease& last, std::string why) {
  image_registry& images = registry();
  const std::lock_guard lock{images.mutex};
  MOLT_CHECK(require_last(last));
  auto parts = std::move(image_access::parts(last));
  last.reset();
  parts->wire.reset();
  std::erase_if(images.mapped, [&](const mapped_image& one) { return one.parts == parts.get(); });
  images.resident.push_back({std::move(parts), std::move(why)});
  images.changed.notify_all();
  return ok();
}

namespace {

/// What lies behind the items in their block is what others have left there.
template <class Items>
void overwrite_slack(Items& items) noexcept {
  if (items.capacity() == 0) return;
  auto* const begin = reinterpret_cast<char*>(items.data());
  const std::size_t used = items.size() * sizeof *items.data();
  std::memset(begin + used, 0, ::malloc_usable_size(begin) - used);
}

}  // namespace

std::string close_in_copy(const plugin_image& image) {
  overwrite_slack(registry().mapped);
  overwrite_slack(registry().resident);
  auto parts = std::move(image_access::parts(image));
  parts->library.unload();
  return still_mapped_because(*parts);
}

std::unique_lock<std::mutex> hold_images() { return std::unique_lock{registry().mutex}; }

std::vector<image_info> images() {
  image_registry& known = registry();
  const std::lock_guard lock{known.mutex};
  std::vector<image_info> list;
  for (const auto& one : known.mapped)
    list.push_back({one.plugin,
                    one.build_id,
                    one.path,
                    {one.parts->begin, one.parts->end},
                    static_cast<std::size_t>(one.image.use_count()),
                    one.parts->wire != nullptr,
                    {}});
  for (const auto& one : known.resident)
    list.push_back({plugin_words(one.parts->facts),
                    one.parts->facts.build_id,
                    one.parts->facts.path,
                    {one.parts->begin, one.parts->end},
                    0,
                    false,
                    one.why});
  return list;
}

}  // namespace molt::loader
