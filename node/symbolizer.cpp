#include "node/symbolizer.hpp"

#include "base/demangle.hpp"
#include "base/unique_fd.hpp"
#include "node/memory_map.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

namespace molt::node {
namespace {

constexpr std::uint64_t table_size_max = std::uint64_t{512} << 20U;  // of symbols, or of their names
constexpr std::size_t files_looked_at_max = 4096;
constexpr std::size_t symbol_size_max = 4096;
constexpr std::size_t notes_size_max = 65'536;

std::string hex(const unsigned char* from, std::size_t size) {
  constexpr const char* digits = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < size; ++i) (out += digits[from[i] >> 4U]) += digits[from[i] & 15U];
  return out;
}

/// A file whose every read is checked.
class checked_file {
 public:
  explicit checked_file(const std::filesystem::path& path)
      : fd_{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)} {
    struct stat status {};
    if (!fd_ || ::fstat(fd_.get(), &status) != 0 || !S_ISREG(status.st_mode)) return;
    size_ = static_cast<std::uint64_t>(status.st_size);
  }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] bool read(std::uint64_t at, void* to, std::size_t size) const {
    if (at > size_ || size > size_ - at) return false;
    auto* next = static_cast<char*>(to);
    while (size != 0) {
      const ssize_t got = ::pread(fd_.get(), next, size, static_cast<off_t>(at));
      if (got <= 0) return false;
      next += got;
      at += static_cast<std::uint64_t>(got);
      size -= static_cast<std::size_t>(got);
    }
    return true;
  }
  template <class Entry>
  [[nodiscard]] std::vector<Entry> table(std::uint64_t at, std::uint64_t bytes) const {
    std::vector<Entry> all;
    if (at > size_ || bytes > size_ - at || bytes > table_size_max) return all;
    all.resize(bytes / sizeof(Entry));
    if (!read(at, all.data(), all.size() * sizeof(Entry))) all.clear();
    return all;
  }

 private:
  unique_fd fd_;
  std::uint64_t size_ = 0;
};

struct elf_headers {
  std::vector<Elf64_Phdr> segments;
  std::vector<Elf64_Shdr> sections;
};

std::optional<elf_headers> read_headers(const checked_file& file) {
  Elf64_Ehdr top;
  if (!file.read(0, &top, sizeof top) || std::memcmp(top.e_ident, ELFMAG, SELFMAG) != 0 ||
      top.e_ident[EI_CLASS] != ELFCLASS64 || top.e_ident[EI_DATA] != ELFDATA2LSB)
    return std::nullopt;
  elf_headers all;
  if (top.e_phentsize == sizeof(Elf64_Phdr))
    all.segments = file.table<Elf64_Phdr>(top.e_phoff, std::uint64_t{top.e_phnum} * sizeof(Elf64_Phdr));
  if (top.e_shentsize == sizeof(Elf64_Shdr))
    all.sections = file.table<Elf64_Shdr>(top.e_shoff, std::uint64_t{top.e_shnum} * sizeof(Elf64_Shdr));
  return all;
}

std::string build_id_of(const checked_file& file, const std::vector<Elf64_Phdr>& segments) {
  for (const auto& segment : segments) {
    if (segment.p_type != PT_NOTE || segment.p_filesz > notes_size_max) continue;
    const auto notes = file.table<unsigned char>(segment.p_offset, segment.p_filesz);
    for (std::size_t at = 0; notes.size() - at >= sizeof(Elf64_Nhdr);) {
      Elf64_Nhdr note;
      std::memcpy(&note, notes.data() + at, sizeof note);
      const std::uint64_t name = (std::uint64_t{note.n_namesz} + 3) & ~std::uint64_t{3};
      const std::uint64_t content = (std::uint64_t{note.n_descsz} + 3) & ~std::uint64_t{3};
      if (name + content > notes.size() - at - sizeof note) break;
      const unsigned char* const owner = notes.data() + at + sizeof note;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(owner, "GNU", 4) == 0 &&
          note.n_descsz <= build_id_max)
        return hex(owner + name, note.n_descsz);
      at += sizeof note + name + content;
    }
  }
  return {};
}

/// Of a length that fits a report.
std::string readable_symbol(const std::string& name) {
  return (name.size() > symbol_size_max ? name : demangle(name)).substr(0, symbol_size_max);
}

}  // namespace

std::vector<mapped_image> images_of_this_process() {
  std::vector<mapped_image> all;
  visit_images(
      [](const map_line& line, std::uint64_t header, void* to) {
        auto& images = *static_cast<std::vector<mapped_image>*>(to);
        if (images.size() == crash_raw_images_max) return;
        unsigned char id[build_id_max];
        const std::size_t size = read_build_id(header, id);
        images.push_back({line.begin, line.end, line.file_offset, hex(id, size), std::string{line.path}});
      },
      &all);
  return all;
}

/// The functions of one file, by address.
class symbolizer::elf_symbols {
 public:
  struct function {
    std::uint64_t address = 0;
    std::uint64_t size = 0;
    std::uint64_t name = 0;  // in names_
  };

  explicit elf_symbols(const std::filesystem::path& path) {
    const checked_file file{path};
    auto headers = read_headers(file);
    if (!headers) return;
    build_id_ = build_id_of(file, headers->segments);
    segments_ = std::move(headers->segments);
    for (const std::uint32_t wanted : {std::uint32_t{SHT_SYMTAB}, std::uint32_t{SHT_DYNSYM}}) {
      for (const auto& section : headers->sections)
        if (section.sh_type == wanted && section.sh_link < headers->sections.size())
          read_functions(file, section, headers->sections[section.sh_link]);
      if (!functions_.empty()) return;  // all of .dynsym stands in .symtab too
    }
  }

  [[nodiscard]] const std::string& build_id() const { return build_id_; }

  [[nodiscard]] std::optional<std::uint64_t> address_of(std::uint64_t file_offset) const {
    for (const auto& segment : segments_)
      if (segment.p_type == PT_LOAD && file_offset >= segment.p_offset &&
          file_offset - segment.p_offset < segment.p_filesz)
        return segment.p_vaddr + (file_offset - segment.p_offset);
    return std::nullopt;
  }

  [[nodiscard]] const function* find(std::uint64_t address) const {
    auto after = std::upper_bound(functions_.begin(), functions_.end(), address,
                                  [](std::uint64_t wanted, const function& each) { return wanted < each.address; });
    if (after == functions_.begin()) return nullptr;
    --after;
    return after->size == 0 || address - after->address < after->size ? &*after : nullptr;
  }

  [[nodiscard]] std::string name_of(const function& each) const {
    const char* const begin = names_.data() + each.name;
    return readable_symbol(
        {begin, ::strnlen(begin, std::min<std::size_t>(names_.size() - each.name, symbol_size_max))});
  }

 private:
  void read_functions(const checked_file& file, const Elf64_Shdr& table, const Elf64_Shdr& names) {
    names_ = file.table<char>(names.sh_offset, names.sh_size);
    for (const auto& symbol : file.table<Elf64_Sym>(table.sh_offset, table.sh_size)) {
      const auto kind = ELF64_ST_TYPE(symbol.st_info);
      if ((kind == STT_FUNC || kind == STT_GNU_IFUNC) && symbol.st_shndx != SHN_UNDEF && symbol.st_name < names_.size())
        functions_.push_back({symbol.st_value, symbol.st_size, symbol.st_name});
    }
    std::sort(functions_.begin(), functions_.end(), [](const function& a, const function& b) {
      return a.address != b.address ? a.address < b.address : a.size < b.size;
    });
  }

  std::string build_id_;
  std::vector<Elf64_Phdr> segments_;
  std::vector<function> functions_;
  std::vector<char> names_;
};

symbolizer::symbolizer(std::vector<mapped_image> images, std::vector<std::filesystem::path> folders)
    : images_{std::move(images)}, folders_{std::move(folders)} {}

symbolizer::~symbolizer() = default;

/// By build ID, every shared object in the folders.
void symbolizer::find_files() {
  if (std::exchange(searched_, true)) return;
  std::size_t left = files_looked_at_max;
  for (const auto& folder : folders_) {
    std::error_code failed;
    std::filesystem::recursive_directory_iterator entries{folder, failed};
    for (; !failed && entries != std::filesystem::recursive_directory_iterator{} && left != 0;
         entries.increment(failed), --left) {
      if (entries->path().extension() != ".so") continue;
      const checked_file file{entries->path()};
      const auto headers = read_headers(file);
      if (!headers) continue;
      if (auto id = build_id_of(file, headers->segments); !id.empty()) files_.emplace(std::move(id), entries->path());
    }
  }
}

const symbolizer::elf_symbols* symbolizer::symbols_of(const mapped_image& image) {
  if (image.build_id.empty()) return nullptr;  // no file can be known for the same
  const auto key = image.path + '\n' + image.build_id;
  if (const auto known = read_.find(key); known != read_.end()) return known->second.get();
  auto made = std::make_unique<const elf_symbols>(image.path);
  if (made->build_id() != image.build_id) {
    find_files();
    const auto file = files_.find(image.build_id);
    made = file != files_.end() ? std::make_unique<const elf_symbols>(file->second) : nullptr;
    if (made != nullptr && made->build_id() != image.build_id) made.reset();
  }
  return read_.emplace(key, std::move(made)).first->second.get();
}

code_place symbolizer::place(std::uint64_t address, bool returns_to) {
  code_place found;
  found.address = address;
  const std::uint64_t inside = returns_to && address != 0 ? address - 1 : address;
  const auto image = std::find_if(images_.begin(), images_.end(),
                                  [&](const mapped_image& each) { return each.begin <= inside && inside < each.end; });
  if (image == images_.end()) return found;
  found.image = image->path;
  found.build_id = image->build_id;
  found.offset = address - image->begin + image->file_offset;
  const elf_symbols* const symbols = symbols_of(*image);
  if (symbols == nullptr) return found;
  const auto in_image = symbols->address_of(inside - image->begin + image->file_offset);
  if (!in_image) return found;
  found.offset = *in_image + (address - inside);
  if (const auto* const function = symbols->find(*in_image); function != nullptr) {
    found.symbol = symbols->name_of(*function);
    found.symbol_offset = found.offset - function->address;
  }
  return found;
}

}  // namespace molt::node
