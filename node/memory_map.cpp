#include "node/memory_map.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace molt::node {
namespace {

constexpr std::size_t path_max = 4096;
constexpr std::size_t line_max = path_max + 128;
constexpr unsigned headers_max = 64;
constexpr std::uint64_t notes_max = 4096;

bool take_number(std::string_view& from, unsigned base, std::uint64_t& number) noexcept {
  number = 0;
  std::size_t used = 0;
  for (; used < from.size() && used < 17; ++used) {
    const char c = from[used];
    unsigned digit = 99;
    if (c >= '0' && c <= '9') digit = static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') digit = static_cast<unsigned>(c - 'a') + 10;
    if (digit >= base) break;
    number = number * base + digit;
  }
  if (used == 0 || used > 16) return false;
  from.remove_prefix(used);
  return true;
}

bool take(std::string_view& from, char wanted) noexcept {
  if (from.empty() || from.front() != wanted) return false;
  from.remove_prefix(1);
  return true;
}

/// The build ID among the notes of one segment.
std::size_t find_build_id(std::uint64_t at, std::uint64_t size, unsigned char (&to)[build_id_max]) noexcept {
  if (size > notes_max) size = notes_max;
  while (size >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;
    if (!read_memory(at, &note, sizeof note)) return 0;
    const std::uint64_t name = (std::uint64_t{note.n_namesz} + 3) & ~std::uint64_t{3};
    const std::uint64_t content = (std::uint64_t{note.n_descsz} + 3) & ~std::uint64_t{3};
    const std::uint64_t whole = sizeof note + name + content;
    if (whole > size) return 0;
    char owner[4] = {};
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && note.n_descsz <= build_id_max &&
        read_memory(at + sizeof note, owner, sizeof owner) && std::memcmp(owner, "GNU", 4) == 0)
      return read_memory(at + sizeof note + name, to, note.n_descsz) ? note.n_descsz : 0;
    at += whole;
    size -= whole;
  }
  return 0;
}

struct image_search {
  void (*visit)(const map_line&, std::uint64_t header, void*);
  void* with;
  char path[path_max];  // of the file whose header was seen last
  std::size_t path_size = 0;
  std::uint64_t header = 0;

  void look_at(std::string_view line) noexcept {
    map_line here;
    if (!parse_map_line(line, here) || here.path.empty() || here.path.front() != '/' || here.path.size() > path_max)
      return;
    if (here.file_offset == 0) {
      std::memcpy(path, here.path.data(), here.path.size());
      path_size = here.path.size();
      header = here.begin;
    }
    if (here.executable) visit(here, here.path == std::string_view{path, path_size} ? header : 0, with);
  }
};

}  // namespace

bool parse_map_line(std::string_view line, map_line& to) noexcept {
  // 7f0c5a200000-7f0c5a201000 r-xp 00001000 00:01 1234    /memfd:libkv.so (deleted)
  to = {};
  if (!take_number(line, 16, to.begin) || !take(line, '-') || !take_number(line, 16, to.end) || !take(line, ' '))
    return false;
  if (line.size() < 5 || line[4] != ' ' || to.begin >= to.end) return false;
  to.executable = line[2] == 'x';
  line.remove_prefix(5);
  std::uint64_t unused = 0;
  if (!take_number(line, 16, to.file_offset) || !take(line, ' ') || !take_number(line, 16, unused) ||
      !take(line, ':') || !take_number(line, 16, unused) || !take(line, ' ') || !take_number(line, 10, unused))
    return false;
  while (take(line, ' ')) {
  }
  constexpr std::string_view deleted = " (deleted)";
  if (line.ends_with(deleted)) line.remove_suffix(deleted.size());
  to.path = line;
  return true;
}

bool read_memory(std::uint64_t address, void* to, std::size_t size) noexcept {
  const iovec here{to, size};
  const iovec there{reinterpret_cast<void*>(address), size};
  return ::process_vm_readv(::getpid(), &here, 1, &there, 1, 0) == static_cast<ssize_t>(size);
}

std::size_t read_build_id(std::uint64_t header, unsigned char (&to)[build_id_max]) noexcept {
  Elf64_Ehdr file;
  if (header == 0 || !read_memory(header, &file, sizeof file) || std::memcmp(file.e_ident, ELFMAG, SELFMAG) != 0 ||
      file.e_ident[EI_CLASS] != ELFCLASS64 || file.e_phentsize != sizeof(Elf64_Phdr))
    return 0;
  std::uint64_t first_address = 0;
  bool loaded = false;
  for (unsigned i = 0; i < file.e_phnum && i < headers_max; ++i) {
    Elf64_Phdr segment;
    if (!read_memory(header + file.e_phoff + i * sizeof segment, &segment, sizeof segment)) return 0;
    if (segment.p_type == PT_LOAD && !loaded) {
      first_address = segment.p_vaddr - segment.p_offset;
      loaded = true;
    }
    if (segment.p_type != PT_NOTE) continue;
    const std::uint64_t at = header + segment.p_vaddr - (loaded ? first_address : 0);
    if (const std::size_t size = find_build_id(at, segment.p_memsz, to); size != 0) return size;
  }
  return 0;
}

bool visit_images(void (*visit)(const map_line&, std::uint64_t header, void*), void* with) noexcept {
  const int fd = ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  image_search search{visit, with, {}};
  char buffer[line_max];
  std::size_t filled = 0;
  bool skipping = false;  // the rest of a line that is too long
  for (;;) {
    const ssize_t got = ::read(fd, buffer + filled, sizeof buffer - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    filled += static_cast<std::size_t>(got);
    std::size_t begin = 0;
    while (const void* const found = std::memchr(buffer + begin, '\n', filled - begin)) {
      const auto end = static_cast<std::size_t>(static_cast<const char*>(found) - buffer);
      if (!skipping) search.look_at({buffer + begin, end - begin});
      skipping = false;
      begin = end + 1;
    }
    filled -= begin;
    std::memmove(buffer, buffer + begin, filled);
    if (filled == sizeof buffer) {
      filled = 0;
      skipping = true;
    }
  }
  ::close(fd);
  return true;
}

}  // namespace molt::node
