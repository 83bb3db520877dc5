#include "loader/elf_survey.hpp"

#include "loader/host_symbols.hpp"
#include "loader/image_findings.hpp"

#include <elf.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <map>
#include <optional>
#include <utility>

namespace molt::loader {
namespace {

constexpr std::size_t build_paths_max = 20;
constexpr std::size_t path_max = 4096;

// Of both machines; none means something else on the other.
constexpr std::array<std::uint32_t, 2> indirect_relocations{R_X86_64_IRELATIVE, R_AARCH64_IRELATIVE};

class surveyor {
 public:
  surveyor(std::span<const std::byte> bytes, const elf_image& image)
      : bytes_{bytes},
        text_{reinterpret_cast<const char*>(bytes.data()), bytes.size()},
        symbol_count_{image.symbols.size() + 1} {}

  elf_survey run() {
    header_ = at<Elf64_Ehdr>(0).value_or(Elf64_Ehdr{});
    read_segments();
    read_dynamic();
    read_versions();
    read_symbols();
    read_relocations(tag(DT_RELA), tag(DT_RELASZ));
    read_relocations(tag(DT_JMPREL), tag(DT_PLTRELSZ));
    read_sections();
    return std::move(found_);
  }

 private:
  struct section {
    std::string_view name;
    Elf64_Shdr header{};
  };

  template <class T>
  [[nodiscard]] std::optional<T> at(std::uint64_t offset) const {
    if (offset > bytes_.size() || sizeof(T) > bytes_.size() - offset) return std::nullopt;
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof value);
    return value;
  }
  [[nodiscard]] std::string_view part(std::uint64_t offset, std::uint64_t size) const {
    if (offset > text_.size() || size > text_.size() - offset) return {};
    return text_.substr(offset, size);
  }
  [[nodiscard]] static std::string_view string_at(std::string_view table, std::uint64_t offset) {
    if (offset >= table.size()) return {};
    const std::string_view from = table.substr(offset, elf_name_max + 1);
    const auto end = from.find('\0');
    return end == std::string_view::npos ? std::string_view{} : from.substr(0, end);
  }
  /// Where an address lies in the file.
  [[nodiscard]] std::optional<std::uint64_t> offset_of(std::uint64_t address) const {
    for (const auto& one : loaded_)
      if (address >= one.p_vaddr && address - one.p_vaddr < one.p_filesz) return one.p_offset + (address - one.p_vaddr);
    return std::nullopt;
  }
  [[nodiscard]] std::optional<std::uint64_t> tag(std::int64_t which) const {
    const auto found = dynamic_.find(which);
    return found == dynamic_.end() ? std::nullopt : std::optional{found->second};
  }
  void read_segments() {
    for (unsigned i = 0; i < header_.e_phnum; ++i) {
      const auto one = at<Elf64_Phdr>(header_.e_phoff + i * sizeof(Elf64_Phdr));
      if (!one) return;
      if (one->p_type == PT_LOAD) loaded_.push_back(*one);
      if (one->p_type == PT_DYNAMIC) dynamic_segment_ = *one;
      if (one->p_type == PT_GNU_RELRO) read_only_later_ = *one;
    }
  }

  void read_dynamic() {
    for (std::uint64_t i = 0; i < dynamic_segment_.p_filesz / sizeof(Elf64_Dyn); ++i) {
      const auto entry = at<Elf64_Dyn>(dynamic_segment_.p_offset + i * sizeof(Elf64_Dyn));
      if (!entry || entry->d_tag == DT_NULL) break;
      dynamic_.insert_or_assign(entry->d_tag, entry->d_un.d_val);  // as the linker: the last one counts
    }
    if (const auto strings = tag(DT_STRTAB))
      if (const auto offset = offset_of(*strings)) strings_ = part(*offset, tag(DT_STRSZ).value_or(0));
    found_.soname = tag(DT_SONAME) ? string_at(strings_, *tag(DT_SONAME)) : std::string_view{};
  }

  /// Walks a chain of `count` records of type T, each at `next` bytes from the one before; at most as many as fit.
  template <class T, class Visit, class Next>
  void walk(std::uint64_t start, std::uint64_t count, Visit visit, Next next) const {
    count = std::min<std::uint64_t>(count, bytes_.size() / sizeof(T));
    for (std::uint64_t place = start; count > 0; --count) {
      const auto record = at<T>(place);
      if (!record) return;
      visit(place, *record);
      const std::uint64_t step = next(*record);
      if (step == 0 || step > bytes_.size()) return;
      place += step;
    }
  }

  void read_versions() {
    if (const auto start = tag(DT_VERDEF) ? offset_of(*tag(DT_VERDEF)) : std::nullopt)
      walk<Elf64_Verdef>(
          *start, tag(DT_VERDEFNUM).value_or(0),
          [&](std::uint64_t place, const Elf64_Verdef& one) {
            const auto name = at<Elf64_Verdaux>(place + one.vd_aux);
            if (name && (one.vd_flags & VER_FLG_BASE) == 0)
              found_.versions.push_back(string_at(strings_, name->vda_name));
          },
          [](const Elf64_Verdef& one) { return one.vd_next; });
    std::uint64_t budget = bytes_.size() / sizeof(Elf64_Vernaux);  // of all libraries together
    if (const auto start = tag(DT_VERNEED) ? offset_of(*tag(DT_VERNEED)) : std::nullopt)
      walk<Elf64_Verneed>(
          *start, tag(DT_VERNEEDNUM).value_or(0),
          [&](std::uint64_t place, const Elf64_Verneed& library) {
            const std::uint64_t count = std::min<std::uint64_t>(library.vn_cnt, budget);
            budget -= count;
            walk<Elf64_Vernaux>(
                place + library.vn_aux, count,
                [&](std::uint64_t, const Elf64_Vernaux& one) {
                  needed_versions_[one.vna_other & 0x7fffU] = {string_at(strings_, one.vna_name),
                                                               string_at(strings_, library.vn_file)};
                },
                [](const Elf64_Vernaux& one) { return one.vna_next; });
          },
          [](const Elf64_Verneed& library) { return library.vn_next; });
  }

  void read_symbols() {
    const auto table = tag(DT_SYMTAB) ? offset_of(*tag(DT_SYMTAB)) : std::nullopt;
    const auto versions = tag(DT_VERSYM) ? offset_of(*tag(DT_VERSYM)) : std::nullopt;
    if (!table) return;
    for (std::uint64_t i = 1; i < symbol_count_; ++i) {
      const auto symbol = at<Elf64_Sym>(*table + i * sizeof(Elf64_Sym));
      if (!symbol) return;
      const auto name = string_at(strings_, symbol->st_name);
      if (ELF64_ST_TYPE(symbol->st_info) == STT_GNU_IFUNC && symbol->st_shndx != SHN_UNDEF)
        found_.indirect_functions.push_back(name);
      if (symbol->st_shndx != SHN_UNDEF || name.empty()) continue;
      symbol_import import{std::string{name}, {}, {}, ELF64_ST_BIND(symbol->st_info) == STB_WEAK};
      const auto version = versions ? at<std::uint16_t>(*versions + i * 2) : std::nullopt;
      if (version)
        if (const auto needed = needed_versions_.find(*version & 0x7fffU); needed != needed_versions_.end()) {
          import.version = needed->second.first;
          import.library = needed->second.second;
        }
      found_.imports.push_back(std::move(import));
    }
  }

  void read_relocations(std::optional<std::uint64_t> address, std::optional<std::uint64_t> size) {
    const auto start = address ? offset_of(*address) : std::nullopt;
    if (!start || !size) return;
    const std::string_view table = part(*start, *size);
    bool indirect = false;
    for (std::size_t i = 0; i + sizeof(Elf64_Rela) <= table.size(); i += sizeof(Elf64_Rela)) {
      const auto kind = static_cast<std::uint32_t>(ELF64_R_TYPE(at<Elf64_Rela>(*start + i)->r_info));
      indirect = indirect || std::find(indirect_relocations.begin(), indirect_relocations.end(), kind) !=
                                 indirect_relocations.end();
      found_.static_tls = found_.static_tls ||
                          (header_.e_machine == EM_X86_64 ? kind == R_X86_64_TPOFF64 : kind == R_AARCH64_TLS_TPREL);
    }
    if (indirect && found_.indirect_functions.empty()) found_.indirect_functions.emplace_back();
  }

  void read_sections() {
    std::vector<section> sections;
    for (unsigned i = 0; i < header_.e_shnum; ++i) {
      const auto one = at<Elf64_Shdr>(header_.e_shoff + i * sizeof(Elf64_Shdr));
      if (!one) return;
      sections.push_back({{}, *one});
    }
    if (header_.e_shstrndx >= sections.size()) return;
    const auto& names = sections[header_.e_shstrndx].header;
    const std::string_view table = part(names.sh_offset, names.sh_size);
    found_.has_sections = true;
    for (auto& one : sections) {
      one.name = string_at(table, one.header.sh_name);
      if (one.header.sh_type == SHT_SYMTAB) found_.has_symbol_table = true;
      if (one.name == ".debug_info" || one.name == ".zdebug_info") found_.has_debug_information = true;
      if (one.name == ".gnu_debuglink" || one.name == ".gnu_debugaltlink")
        found_.debug_file = string_at(part(one.header.sh_offset, one.header.sh_size), 0);
      const bool constant = (one.header.sh_flags & (SHF_ALLOC | SHF_WRITE | SHF_EXECINSTR)) == SHF_ALLOC;
      if (constant && one.header.sh_type == SHT_PROGBITS) find_paths(part(one.header.sh_offset, one.header.sh_size));
    }
    for (const auto& one : sections)
      if (one.header.sh_type == SHT_SYMTAB) find_statics(sections, one.header);
  }

  // Nobody writes there once the linker has protected it.
  [[nodiscard]] bool writable(const Elf64_Shdr& of) const {
    const bool protected_later =
        of.sh_addr >= read_only_later_.p_vaddr && of.sh_addr - read_only_later_.p_vaddr < read_only_later_.p_memsz;
    return (of.sh_flags & (SHF_ALLOC | SHF_WRITE)) == (SHF_ALLOC | SHF_WRITE) && !protected_later;
  }

  void find_statics(const std::vector<section>& sections, const Elf64_Shdr& table) {
    if (table.sh_link >= sections.size()) return;
    const auto& strings = sections[table.sh_link].header;
    const std::string_view names = part(strings.sh_offset, strings.sh_size);
    for (std::uint64_t i = 1; i < table.sh_size / sizeof(Elf64_Sym); ++i) {
      const auto symbol = at<Elf64_Sym>(table.sh_offset + i * sizeof(Elf64_Sym));
      if (!symbol) return;
      const auto kind = ELF64_ST_TYPE(symbol->st_info);
      if ((kind != STT_OBJECT && kind != STT_TLS) || symbol->st_size == 0 || symbol->st_shndx >= sections.size())
        continue;
      const auto& where = sections[symbol->st_shndx];
      const auto name = string_at(names, symbol->st_name);
      if (!writable(where.header) || made_by_toolchain(name)) continue;
      found_.statics.push_back({name, where.name, symbol->st_size});
    }
  }

  static bool made_by_toolchain(std::string_view name) {
    // Guards stand beside the statics that they guard.
    constexpr std::array<std::string_view, 14> starts{
        "_ZStL8__ioinit", "_ZGV",    "DW.ref.",    "completed.", "__dso_handle", "__TMC_END__", "_DYNAMIC",
        "_GLOBAL_OFFSET", "__asan_", "__odr_asan", "__ubsan",    "__sanitizer",  "__llvm_",     "__gcov"};
    return name.empty() || name.starts_with(".L") ||
           std::any_of(starts.begin(), starts.end(), [&](std::string_view start) { return name.starts_with(start); });
  }

  // Strings that are the path of a source file: __FILE__ in assertions and logs.
  void find_paths(std::string_view constants) {
    constexpr std::array<std::string_view, 8> endings{".cpp", ".hpp", ".cc", ".hh", ".cxx", ".h", ".c", ".ipp"};
    for (std::size_t from = 0; from < constants.size() && found_.build_paths.size() < build_paths_max;) {
      const std::size_t end = std::min(constants.find('\0', from), constants.size());
      const std::string_view text = constants.substr(from, end - from);
      from = end + 1;
      const std::size_t slash = text.find('/');
      if (slash == std::string_view::npos || text.size() > path_max) continue;
      const bool is_source =
          std::any_of(endings.begin(), endings.end(), [&](auto ending) { return text.ends_with(ending); });
      // What follows numbers in a section that is no table of strings may have bytes before it.
      const std::string_view path = text.substr(slash);
      if (!is_source || (slash != 0 && text.find_first_of("./") < slash) || path.starts_with("/usr/") ||
          slash + 1 == text.size() || (slash != 0 && std::isprint(static_cast<unsigned char>(text[slash - 1])) != 0))
        continue;
      if (std::find(found_.build_paths.begin(), found_.build_paths.end(), path) == found_.build_paths.end())
        found_.build_paths.push_back(path);
    }
  }

  std::span<const std::byte> bytes_;
  std::string_view text_;
  std::uint64_t symbol_count_;  ///< of .dynsym, with the null symbol
  Elf64_Ehdr header_{};
  std::vector<Elf64_Phdr> loaded_;
  Elf64_Phdr dynamic_segment_{};
  Elf64_Phdr read_only_later_{};
  std::map<std::int64_t, std::uint64_t> dynamic_;
  std::string_view strings_;
  std::map<unsigned, std::pair<std::string_view, std::string_view>> needed_versions_;
  elf_survey found_;
};

std::string bytes_in_words(std::uint64_t size) { return std::to_string(size) + (size == 1 ? " byte" : " bytes"); }

bool has_finding(const inspection& in, finding_kind kind) {
  return std::any_of(in.findings.begin(), in.findings.end(), [kind](const finding& one) { return one.kind == kind; });
}

}  // namespace

elf_survey elf_survey::make(std::span<const std::byte> bytes, const elf_image& image) {
  return surveyor{bytes, image}.run();
}

void judge_survey(const elf_survey& survey, inspection& to) {
  if (survey.static_tls && !has_finding(to, finding_kind::static_tls))
    add_finding(to, finding_kind::static_tls, "needs static thread-local storage, of which a process has little");
  for (std::size_t i = 0; i < std::min(survey.indirect_functions.size(), findings_of_kind_max); ++i) {
    const auto name = survey.indirect_functions[i];
    add_finding(to, finding_kind::indirect_function,
                name.empty() ? "has an IFUNC" : "has the IFUNC " + std::string{name.substr(0, path_max)}, name);
  }
  for (std::size_t i = 0; i < std::min(survey.statics.size(), findings_of_kind_max); ++i) {
    const auto& one = survey.statics[i];
    add_finding(to, finding_kind::static_data,
                "keeps " + bytes_in_words(one.size) + " in the static " + std::string{one.name.substr(0, path_max)} +
                    " (" + std::string{one.section.substr(0, path_max)} + ")",
                one.name);
  }
  if (survey.statics.size() > findings_of_kind_max)
    add_finding(to, finding_kind::static_data,
                "keeps " + std::to_string(survey.statics.size() - findings_of_kind_max) + " more statics");
  if (survey.debug_file.empty() && !survey.has_symbol_table)
    add_finding(to, finding_kind::stripped, "is stripped of its symbol table");
  if (!survey.debug_file.empty())
    add_finding(to, finding_kind::split_debug, "has its debug information in " + std::string{survey.debug_file},
                survey.debug_file);
  for (const auto path : survey.build_paths)
    add_finding(to, finding_kind::build_path, "holds the path " + std::string{path}, path);
  to.imports = survey.imports;
  sort_findings(to);
}

}  // namespace molt::loader
