#include "loader/image_file.hpp"

#include "base/memory_map.hpp"
#include "base/unique_fd.hpp"
#include "loader/inspection.hpp"
#include "loader/sha256.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

namespace molt::loader {
namespace {

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

constexpr const char* which_file = "give the path of a plugin built with molt_add_plugin";

error system_error(const std::filesystem::path& path, const char* what, int code) {
  const bool absent = code == ENOENT || code == ENOTDIR;
  const char* hint = absent ? which_file : code == EACCES ? "ask as a user who may read it" : "";
  return error{absent ? reason::not_found : reason::io, path.string() + ": " + what + ": " + std::strerror(code), hint};
}

// The name is what /proc/self/maps, perf and a core file show.
int make_memory_file(const std::filesystem::path& path) {
  constexpr std::size_t name_max = 200;
  const std::string name = path.filename().string().substr(0, name_max);
  const int made = ::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  if (made >= 0 || errno != EINVAL) return made;
  return ::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);  // before Linux 6.3
}

error too_large(const std::filesystem::path& path) {
  return error{reason::out_of_bounds, path.string() + ": larger than 512 MiB", "strip the debug information"};
}

result<std::size_t> copy_all(const std::filesystem::path& path, int from, int to) {
  std::size_t total = 0;
  alignas(16) char buffer[1U << 16U];
  for (;;) {
    const ssize_t got = ::read(from, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(path, "cannot read", errno);
    if (got == 0) return total;
    total += static_cast<std::size_t>(got);
    if (total > image_size_max) return too_large(path);  // it grew meanwhile
    for (ssize_t put = 0; put < got;) {
      const ssize_t wrote = ::write(to, buffer + put, static_cast<std::size_t>(got - put));
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return system_error(path, "cannot copy into memory", errno);
      put += wrote;
    }
  }
}

result<void> require_digest(const plugin_file& stated, std::span<const std::byte> bytes) {
  if (stated.sha256.empty()) return ok();
  sha256 hash;
  hash.add({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  const std::string found = hash.hex();
  if (found == stated.sha256) return ok();
  return error{reason::corrupt,
               stated.path.string() + ": has changed since it was installed: its SHA-256 is " + found +
                   ", its release states " + stated.sha256,
               "install the package that it came from again: that repairs it"};
}

/// Where views are mapped, if there is room: far from where images are. What has been read of a file leaves pointers
/// into its view in freed memory; those are not to be taken for pointers into an image that lies there later
/// (image_evidence.hpp).
void* place_for_view(std::size_t size) noexcept {
  constexpr std::uintptr_t begin = std::uintptr_t{1} << 45U;
  constexpr std::uintptr_t span = std::uintptr_t{1} << 44U;
  constexpr std::uintptr_t step = std::uintptr_t{1} << 16U;  // no page is larger
  static std::atomic<std::uintptr_t> next{0};
  const std::uintptr_t at = next.fetch_add((size + step - 1) & ~(step - 1), std::memory_order_relaxed);
  return reinterpret_cast<void*>(begin + at % span);
}

}  // namespace

result<image_file> image_file::open(const plugin_file& wanted) {
  const auto& path = wanted.path;
  // Not blocking, so that a FIFO is refused rather than waited for.
  const unique_fd source{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!source) return system_error(path, "cannot open", errno);
  struct stat status {};
  if (::fstat(source.get(), &status) != 0) return system_error(path, "cannot look at", errno);
  if (!S_ISREG(status.st_mode))
    return error{reason::invalid_argument, path.string() + ": not a regular file", which_file};
  if (static_cast<std::size_t>(status.st_size) > image_size_max) return too_large(path);

  unique_fd copy{make_memory_file(path)};
  if (!copy) return system_error(path, "cannot make a memory file", errno);
  MOLT_TRY(const std::size_t size, copy_all(path, source.get(), copy.get()));
  if (size == 0)
    return error{reason::invalid_argument, path.string() + ": the file is empty", "build or copy the file again"};
  if (::fcntl(copy.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
    return system_error(path, "cannot seal its copy", errno);
  void* view = ::mmap(place_for_view(size), size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, copy.get(), 0);
  if (view == MAP_FAILED) return system_error(path, "cannot map its copy", errno);
  image_file opened;
  opened.descriptor_ = copy.release();
  opened.bytes_ = {static_cast<const std::byte*>(view), size};
  MOLT_CHECK(require_digest(wanted, opened.bytes_));
  return opened;
}

image_file::image_file(image_file&& other) noexcept
    : descriptor_{std::exchange(other.descriptor_, -1)}, bytes_{std::exchange(other.bytes_, {})} {}

image_file& image_file::operator=(image_file&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

image_file::~image_file() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  if (descriptor_ >= 0) ::close(descriptor_);
}

std::string image_file::load_path() const {
  return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(descriptor_);
}

result<bool> image_file::mapped_elsewhere() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) return system_error(load_path(), "cannot look at", errno);
  bool elsewhere = false;
  const bool read = visit_mappings([&](const map_line& line) {
    elsewhere = line.device_major == major(status.st_dev) && line.device_minor == minor(status.st_dev) &&
                line.inode == status.st_ino && line.begin != reinterpret_cast<std::uintptr_t>(bytes_.data());
    return !elsewhere;
  });
  if (!read) return system_error("/proc/self/maps", "cannot read", errno);
  return elsewhere;
}

}  // namespace molt::loader
