#include "loader/elf_image.hpp"

#include "loader/process_memory.hpp"

#include <gelf.h>
#include <libelf.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

namespace molt::loader {
namespace {

static_assert(std::endian::native == std::endian::little, "the files and notes read here are little-endian");

constexpr std::size_t program_headers_max = 256;
constexpr std::size_t build_id_min = 8;
constexpr std::size_t build_id_max = 64;

using elf_handle = std::unique_ptr<Elf, decltype(&elf_end)>;

class elf_parser {
 public:
  elf_parser(const std::filesystem::path& name, std::span<const std::byte> bytes)
      : name_{name.string()}, bytes_{bytes}, elf_{nullptr, &elf_end} {}

  result<elf_image> parse() {
    MOLT_CHECK(read_header());
    MOLT_CHECK(open());
    MOLT_CHECK(read_segments());
    MOLT_CHECK(read_notes());
    MOLT_CHECK(read_dynamic());
    MOLT_CHECK(read_dynamic_symbols());
    MOLT_CHECK(read_full_symbols());
    return std::move(image_);
  }

 private:
  struct segment {
    std::uint64_t address;
    std::uint64_t offset;
    std::uint64_t size;  // in the file
  };

  [[nodiscard]] error wrong(const std::string& what) const {
    return error{reason::invalid_argument, name_ + ": " + what, "give the path of a plugin built with molt_add_plugin"};
  }
  [[nodiscard]] error corrupt(const std::string& what) const {
    return error{reason::corrupt, name_ + ": damaged or cut short: " + what, "build or copy the file again"};
  }

  [[nodiscard]] bool in_file(std::uint64_t offset, std::uint64_t size) const {
    return offset <= bytes_.size() && size <= bytes_.size() - offset;
  }

  template <class T>
  [[nodiscard]] std::optional<T> read(std::uint64_t offset) const {
    if (!in_file(offset, sizeof(T))) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }

  [[nodiscard]] std::optional<std::uint64_t> to_offset(std::uint64_t address, std::uint64_t size) const {
    for (const auto& part : loaded_)
      if (address >= part.address && address - part.address <= part.size &&
          size <= part.size - (address - part.address))
        return part.offset + (address - part.address);
    return std::nullopt;
  }

  // What libelf is not trusted with: everything it computes sizes from.
  result<void> read_header() {
    if (bytes_.size() < SELFMAG || std::memcmp(bytes_.data(), ELFMAG, SELFMAG) != 0) return wrong("not an ELF file");
    const auto header = read<Elf64_Ehdr>(0);
    if (!header) return corrupt("the ELF header is not complete");
    if (header->e_ident[EI_CLASS] != ELFCLASS64) return wrong("not a 64-bit ELF file");
    if (header->e_ident[EI_DATA] != ELFDATA2LSB) return wrong("not a little-endian ELF file");
    if (header->e_ident[EI_VERSION] != EV_CURRENT || header->e_version != EV_CURRENT)
      return wrong("an unknown ELF version");
    if (header->e_machine == EM_X86_64) image_.machine = "x86-64";
    if (header->e_machine == EM_AARCH64) image_.machine = "aarch64";
    if (image_.machine.empty())
      return wrong("for ELF machine " + std::to_string(header->e_machine) + ", neither x86-64 nor aarch64");
    if (header->e_type != ET_DYN) return wrong("an ELF file, but not a shared object");
    if (header->e_ehsize != sizeof(Elf64_Ehdr)) return corrupt("the ELF header's size");
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum == 0 || header->e_phnum > program_headers_max ||
        !in_file(header->e_phoff, std::uint64_t{header->e_phnum} * sizeof(Elf64_Phdr)))
      return corrupt("the program headers do not lie in the file");
    if (header->e_shoff != 0) {
      if (header->e_shnum == 0 || header->e_shnum >= SHN_LORESERVE || header->e_shentsize != sizeof(Elf64_Shdr) ||
          !in_file(header->e_shoff, std::uint64_t{header->e_shnum} * sizeof(Elf64_Shdr)))
        return corrupt("the section headers do not lie in the file");
    } else if (header->e_shnum != 0) {
      return corrupt("section headers are counted but nowhere");
    }
    return ok();
  }

  result<void> open() {
    static const bool version_known = elf_version(EV_CURRENT) != EV_NONE;
    if (!version_known) return error{reason::internal, "libelf does not know the current ELF version"};
    // Opened for reading, so nothing is written there.
    auto* start = const_cast<char*>(reinterpret_cast<const char*>(bytes_.data()));
    elf_.reset(elf_memory(start, bytes_.size()));
    if (elf_ == nullptr || elf_kind(elf_.get()) != ELF_K_ELF) return corrupt("libelf cannot read it");
    return ok();
  }

  result<void> read_segments() {
    std::size_t count = 0;
    if (elf_getphdrnum(elf_.get(), &count) != 0 || count > program_headers_max)
      return corrupt("the number of program headers");
    bool stack_stated = false;
    for (std::size_t i = 0; i < count; ++i) {
      GElf_Phdr header;
      if (gelf_getphdr(elf_.get(), static_cast<int>(i), &header) == nullptr) return corrupt("a program header");
      if (header.p_type == PT_GNU_STACK) {
        stack_stated = true;
        image_.executable_stack = (header.p_flags & PF_X) != 0;
        continue;
      }
      if (header.p_type != PT_LOAD && header.p_type != PT_DYNAMIC && header.p_type != PT_NOTE &&
          header.p_type != PT_TLS)
        continue;
      if (!in_file(header.p_offset, header.p_filesz)) return corrupt("a segment does not lie in the file");
      if (header.p_type == PT_LOAD) MOLT_CHECK(add_loaded(header));
      if (header.p_type == PT_DYNAMIC) dynamic_ = segment{header.p_vaddr, header.p_offset, header.p_filesz};
      if (header.p_type == PT_NOTE) notes_.push_back(header);
      if (header.p_type == PT_TLS) image_.thread_local_storage = true;
    }
    if (!stack_stated) image_.executable_stack = true;  // the linker then assumes it
    if (loaded_.empty()) return corrupt("no segment to load");
    if (!dynamic_) return corrupt("no dynamic segment");
    if (to_offset(dynamic_->address, dynamic_->size) != dynamic_->offset)
      return corrupt("the dynamic segment is loaded from elsewhere than it says");
    return ok();
  }

  result<void> add_loaded(const GElf_Phdr& header) {
    if (header.p_filesz > header.p_memsz || header.p_vaddr > UINT64_MAX - header.p_memsz)
      return corrupt("a segment's size");
    // What lies at an address must be told by one segment: the linker maps whole pages, the later over the earlier.
    if (!loaded_.empty()) {
      const std::uint64_t page = page_size();
      const auto& before = loaded_.back();
      const bool same_page = header.p_vaddr / page == (image_.end_address - 1) / page;
      if (header.p_vaddr < image_.end_address ||
          (same_page && header.p_vaddr - header.p_offset != before.address - before.offset))
        return corrupt("segments are out of order, or overlap");
    }
    if ((header.p_flags & (PF_W | PF_X)) == (PF_W | PF_X)) image_.writable_code = true;
    if (loaded_.empty()) image_.first_address = header.p_vaddr;
    image_.first_address = std::min(image_.first_address, header.p_vaddr);
    image_.end_address = std::max(image_.end_address, header.p_vaddr + header.p_memsz);
    loaded_.push_back({header.p_vaddr, header.p_offset, header.p_filesz});
    return ok();
  }

  result<void> read_notes() {
    for (const auto& header : notes_) {
      if (header.p_filesz == 0) continue;
      Elf_Data* data = elf_getdata_rawchunk(elf_.get(), static_cast<std::int64_t>(header.p_offset), header.p_filesz,
                                            header.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR);
      if (data == nullptr) return corrupt("a note segment");
      std::size_t at = 0;
      while (at < data->d_size) {
        GElf_Nhdr note;
        std::size_t name = 0;
        std::size_t descriptor = 0;
        const std::size_t next = gelf_getnote(data, at, &note, &name, &descriptor);
        if (next <= at || next > data->d_size || name + note.n_namesz > data->d_size ||
            descriptor + note.n_descsz > data->d_size)
          return corrupt("a note does not end in its segment");
        const std::string_view owner{static_cast<const char*>(data->d_buf) + name, note.n_namesz};
        add_note(owner, note.n_type, bytes_.subspan(header.p_offset + descriptor, note.n_descsz));
        at = next;
      }
    }
    return ok();
  }

  void add_note(std::string_view owner, std::uint32_t type, std::span<const std::byte> descriptor) {
    using namespace std::string_view_literals;
    if (owner == "molt\0"sv && type == 0x746c6f6dU) {
      // Overlapping note segments may show one note twice.
      for (const auto& known : image_.molt_notes)
        if (known.data() == descriptor.data()) return;
      image_.molt_notes.push_back(descriptor);
    }
    if (owner == "GNU\0"sv && type == NT_GNU_BUILD_ID && image_.build_id.empty() && descriptor.size() >= build_id_min &&
        descriptor.size() <= build_id_max) {
      for (const std::byte byte : descriptor) {
        constexpr std::string_view digits = "0123456789abcdef";
        image_.build_id += digits[std::to_integer<unsigned>(byte) >> 4U];
        image_.build_id += digits[std::to_integer<unsigned>(byte) & 15U];
      }
    }
  }

  result<void> read_dynamic() {
    Elf_Data* data =
        elf_getdata_rawchunk(elf_.get(), static_cast<std::int64_t>(dynamic_->offset), dynamic_->size, ELF_T_DYN);
    if (data == nullptr) return corrupt("the dynamic segment");
    std::vector<std::uint64_t> needed;
    std::vector<std::uint64_t> run_paths;
    for (std::size_t i = 0; i < data->d_size / sizeof(Elf64_Dyn); ++i) {
      GElf_Dyn entry;
      if (gelf_getdyn(data, static_cast<int>(i), &entry) == nullptr) return corrupt("an entry of the dynamic segment");
      if (entry.d_tag == DT_NULL) break;
      switch (entry.d_tag) {
        case DT_NEEDED:
          needed.push_back(entry.d_un.d_val);
          break;
        case DT_RPATH:
        case DT_RUNPATH:
          run_paths.push_back(entry.d_un.d_val);
          break;
        case DT_STRTAB:
          strings_address_ = entry.d_un.d_ptr;
          break;
        case DT_STRSZ:
          strings_size_ = entry.d_un.d_val;
          break;
        case DT_SYMTAB:
          symbols_address_ = entry.d_un.d_ptr;
          break;
        case DT_RELA:
          relocations_.address = entry.d_un.d_ptr;
          break;
        case DT_RELASZ:
          relocations_.size = entry.d_un.d_val;
          break;
        case DT_JMPREL:
          calls_.address = entry.d_un.d_ptr;
          break;
        case DT_PLTRELSZ:
          calls_.size = entry.d_un.d_val;
          break;
        case DT_HASH:
          hash_ = entry.d_un.d_ptr;
          break;
        case DT_GNU_HASH:
          gnu_hash_ = entry.d_un.d_ptr;
          break;
        case DT_TEXTREL:
          image_.text_relocations = true;
          break;
        case DT_FLAGS:
          image_.text_relocations |= (entry.d_un.d_val & DF_TEXTREL) != 0;
          image_.static_tls = (entry.d_un.d_val & DF_STATIC_TLS) != 0;
          break;
        case DT_FLAGS_1:
          image_.no_delete = (entry.d_un.d_val & DF_1_NODELETE) != 0;
          if ((entry.d_un.d_val & DF_1_PIE) != 0) return wrong("a program, not a shared object");
          break;
        default:
          break;
      }
    }
    const auto strings = to_offset(strings_address_, strings_size_);
    if (!strings) return corrupt("the dynamic strings do not lie in the file");
    strings_ = {reinterpret_cast<const char*>(bytes_.data()) + *strings, strings_size_};
    MOLT_CHECK(read_strings(needed, image_.needed));
    return read_strings(run_paths, image_.run_paths);
  }

  result<void> read_strings(const std::vector<std::uint64_t>& offsets, std::vector<std::string_view>& to) const {
    for (const auto offset : offsets) {
      const auto text = string_at(strings_, offset);
      if (!text) return corrupt("a dynamic string does not lie in the file");
      to.push_back(*text);
    }
    return ok();
  }

  static std::optional<std::string_view> string_at(std::string_view table, std::uint64_t offset) {
    if (offset >= table.size()) return std::nullopt;
    const std::string_view from = table.substr(offset, elf_name_max + 1);
    const std::size_t end = from.find('\0');
    if (end == std::string_view::npos) return std::nullopt;
    return from.substr(0, end);
  }

  // The dynamic segment does not state how many symbols there are; the hash tables do. The linker looks into the newer
  // one, so none that it would find there may be left out because the older one states fewer. Of a file that defines
  // nothing neither counts what it needs of others, but its relocations use that.
  [[nodiscard]] std::optional<std::uint64_t> count_symbols() const {
    if (!hash_ && !gnu_hash_) return std::nullopt;
    const auto by_chains = hash_ ? count_by_chains() : std::optional<std::uint64_t>{0};
    const auto by_gnu_hash = gnu_hash_ ? count_by_gnu_hash() : std::optional<std::uint64_t>{0};
    const auto by_relocations = count_by_relocations();
    if (!by_chains || !by_gnu_hash || !by_relocations) return std::nullopt;
    return std::max({*by_chains, *by_gnu_hash, *by_relocations});
  }

  [[nodiscard]] std::optional<std::uint64_t> count_by_relocations() const {
    std::uint64_t last = 0;
    for (const auto& table : {relocations_, calls_}) {
      if (table.size == 0) continue;
      const auto start = to_offset(table.address, table.size);
      if (!start) return std::nullopt;
      for (std::uint64_t i = 0; i < table.size / sizeof(Elf64_Rela); ++i)
        last = std::max<std::uint64_t>(last, ELF64_R_SYM(read<Elf64_Rela>(*start + i * sizeof(Elf64_Rela))->r_info));
    }
    return last + 1;
  }

  [[nodiscard]] std::optional<std::uint64_t> count_by_chains() const {
    const auto at = to_offset(*hash_, 8);
    return at ? std::optional<std::uint64_t>{read<std::uint32_t>(*at + 4)} : std::nullopt;
  }

  [[nodiscard]] std::optional<std::uint64_t> count_by_gnu_hash() const {
    const auto at = to_offset(*gnu_hash_, 16);
    if (!at) return std::nullopt;
    const std::uint64_t bucket_count = *read<std::uint32_t>(*at);
    const std::uint64_t first_symbol = *read<std::uint32_t>(*at + 4);
    const std::uint64_t buckets = *at + 16 + std::uint64_t{*read<std::uint32_t>(*at + 8)} * 8;
    if (!in_file(buckets, bucket_count * 4)) return std::nullopt;
    std::uint64_t last = 0;
    for (std::uint64_t i = 0; i < bucket_count; ++i)
      last = std::max(last, std::uint64_t{*read<std::uint32_t>(buckets + i * 4)});
    if (last < first_symbol) return first_symbol;
    const std::uint64_t chains = buckets + bucket_count * 4;
    for (;; ++last) {
      const auto hash = read<std::uint32_t>(chains + (last - first_symbol) * 4);
      if (!hash) return std::nullopt;
      if ((*hash & 1U) != 0) return last + 1;
    }
  }

  result<void> read_dynamic_symbols() {
    const auto count = count_symbols();
    if (!count) return corrupt("a table that counts symbols does not lie in the file");
    if (*count > bytes_.size() / sizeof(Elf64_Sym)) return corrupt("the number of dynamic symbols");
    const auto at = to_offset(symbols_address_, *count * sizeof(Elf64_Sym));
    if (!at) return corrupt("the dynamic symbols do not lie in the file");
    if (*count <= 1) return ok();
    Elf_Data* data =
        elf_getdata_rawchunk(elf_.get(), static_cast<std::int64_t>(*at), *count * sizeof(Elf64_Sym), ELF_T_SYM);
    if (data == nullptr) return corrupt("the dynamic symbols");
    image_.symbols.reserve(*count - 1);
    for (std::uint64_t i = 1; i < *count; ++i) {
      GElf_Sym entry;
      if (gelf_getsym(data, static_cast<int>(i), &entry) == nullptr) return corrupt("a dynamic symbol");
      const auto text = string_at(strings_, entry.st_name);
      if (!text) return corrupt("a dynamic symbol's name");
      const auto binding = GELF_ST_BIND(entry.st_info);
      const auto visibility = GELF_ST_VISIBILITY(entry.st_other);
      elf_symbol& symbol = image_.symbols.emplace_back();
      symbol.name = *text;
      symbol.defined = entry.st_shndx != SHN_UNDEF;
      symbol.weak = binding == STB_WEAK;
      symbol.unique = binding == STB_GNU_UNIQUE;
      symbol.exported =
          symbol.defined && binding != STB_LOCAL && (visibility == STV_DEFAULT || visibility == STV_PROTECTED);
      if (symbol.defined) note_definition(symbol.name);
    }
    return ok();
  }

  void note_definition(std::string_view name) {
    if (name == "__cxa_throw" || name == "__cxa_allocate_exception") image_.defines_exceptions = true;
    if (name == "malloc" || name == "_Znwm" || name == "_Znam") image_.defines_allocator = name;
    if (name == "atexit") image_.registers_exit = true;
  }

  // A version script hides a private libstdc++ from .dynsym; only the full table, if it was not stripped, still shows
  // it.
  result<void> read_full_symbols() {
    Elf_Scn* section = nullptr;
    while ((section = elf_nextscn(elf_.get(), section)) != nullptr) {
      GElf_Shdr header;
      if (gelf_getshdr(section, &header) == nullptr) return corrupt("a section header");
      if (header.sh_type != SHT_NOBITS && header.sh_type != SHT_NULL && !in_file(header.sh_offset, header.sh_size))
        return corrupt("a section does not lie in the file");
      if (header.sh_type != SHT_SYMTAB || header.sh_size < sizeof(Elf64_Sym)) continue;
      GElf_Shdr strings;
      Elf_Scn* strings_section = elf_getscn(elf_.get(), header.sh_link);
      if (strings_section == nullptr || gelf_getshdr(strings_section, &strings) == nullptr ||
          strings.sh_type != SHT_STRTAB || !in_file(strings.sh_offset, strings.sh_size))
        return corrupt("the symbol table's strings");
      const std::string_view table{reinterpret_cast<const char*>(bytes_.data()) + strings.sh_offset, strings.sh_size};
      for (std::uint64_t i = 1; i < header.sh_size / sizeof(Elf64_Sym); ++i) {
        const auto entry = read<Elf64_Sym>(header.sh_offset + i * sizeof(Elf64_Sym));
        if (entry->st_shndx == SHN_UNDEF || entry->st_name == 0) continue;
        const auto text = string_at(table, entry->st_name);
        if (!text) return corrupt("a symbol's name");
        note_definition(*text);
      }
    }
    return ok();
  }

  std::string name_;
  std::span<const std::byte> bytes_;
  elf_handle elf_;
  elf_image image_;
  std::vector<segment> loaded_;
  std::vector<GElf_Phdr> notes_;
  std::optional<segment> dynamic_;
  std::uint64_t strings_address_ = 0;
  std::uint64_t strings_size_ = 0;
  std::uint64_t symbols_address_ = 0;
  struct {
    std::uint64_t address = 0;
    std::uint64_t size = 0;
  } relocations_, calls_;
  std::optional<std::uint64_t> hash_;
  std::optional<std::uint64_t> gnu_hash_;
  std::string_view strings_;
};

}  // namespace

result<elf_image> elf_image::parse(const std::filesystem::path& name, std::span<const std::byte> bytes) {
  return elf_parser{name, bytes}.parse();
}

std::string_view host_machine() noexcept {
#if defined(__x86_64__)
  return "x86-64";
#elif defined(__aarch64__)
  return "aarch64";
#else
#error "molt runs on x86-64 and aarch64"
#endif
}

}  // namespace molt::loader
