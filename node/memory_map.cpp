#include "node/memory_map.hpp"

#include <elf.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

namespace molt::node {
namespace {

constexpr std::size_t path_max = 4096;
constexpr unsigned headers_max = 64;
constexpr std::uint64_t notes_max = 4096;

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

  void look_at(const map_line& here) noexcept {
    if (here.path.empty() || here.path.front() != '/' || here.path.size() > path_max) return;
    if (here.file_offset == 0) {
      std::memcpy(path, here.path.data(), here.path.size());
      path_size = here.path.size();
      header = here.begin;
    }
    if (here.executable) visit(here, here.path == std::string_view{path, path_size} ? header : 0, with);
  }
};

}  // namespace

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
  image_search search{visit, with, {}};
  return visit_mappings([&search](const map_line& line) {
    search.look_at(line);
    return true;
  });
}

}  // namespace molt::node
