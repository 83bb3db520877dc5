#include "loader/image_symbols.hpp"

#include "base/demangle.hpp"

#include <gelf.h>

#include <cstdio>
#include <memory>

namespace molt::loader {
namespace {

std::string with_offset(std::string name, std::uint64_t offset) {
  if (offset == 0) return name;
  char text[32];
  std::snprintf(text, sizeof text, " + 0x%llx", static_cast<unsigned long long>(offset));
  return name + text;
}

struct found_symbol {
  std::string name;
  std::uint64_t value = 0;
};

void look_in_table(Elf* file, Elf_Scn* section, const GElf_Shdr& header, std::uint64_t address, found_symbol& best) {
  Elf_Data* const data = elf_getdata(section, nullptr);
  if (data == nullptr || header.sh_entsize == 0) return;
  const auto count = static_cast<int>(header.sh_size / header.sh_entsize);
  for (int i = 0; i < count; ++i) {
    GElf_Sym symbol;
    if (gelf_getsym(data, i, &symbol) == nullptr) return;
    const auto kind = GELF_ST_TYPE(symbol.st_info);
    if (symbol.st_shndx == SHN_UNDEF || (kind != STT_FUNC && kind != STT_OBJECT && kind != STT_GNU_IFUNC)) continue;
    if (address < symbol.st_value || address - symbol.st_value >= symbol.st_size) continue;
    const char* const name = elf_strptr(file, header.sh_link, symbol.st_name);
    if (name == nullptr || *name == '\0' || (!best.name.empty() && best.value >= symbol.st_value)) continue;
    best = {name, symbol.st_value};
  }
}

}  // namespace

std::string name_address(std::span<const std::byte> bytes, std::uint64_t address) {
  if (elf_version(EV_CURRENT) == EV_NONE) return {};
  const std::unique_ptr<Elf, decltype(&elf_end)> file{
      elf_memory(reinterpret_cast<char*>(const_cast<std::byte*>(bytes.data())), bytes.size()), &elf_end};
  if (file == nullptr) return {};
  std::size_t names = 0;
  (void)elf_getshdrstrndx(file.get(), &names);
  found_symbol best;
  std::string section_name;
  for (Elf_Scn* section = elf_nextscn(file.get(), nullptr); section != nullptr;
       section = elf_nextscn(file.get(), section)) {
    GElf_Shdr header;
    if (gelf_getshdr(section, &header) == nullptr) continue;
    if (header.sh_type == SHT_SYMTAB || header.sh_type == SHT_DYNSYM)
      look_in_table(file.get(), section, header, address, best);
    if ((header.sh_flags & SHF_ALLOC) != 0 && address >= header.sh_addr && address - header.sh_addr < header.sh_size)
      if (const char* const name = elf_strptr(file.get(), names, header.sh_name); name != nullptr) {
        section_name = with_offset(name, address - header.sh_addr);
      }
  }
  if (best.name.empty()) return section_name;
  return with_offset(demangle(best.name.c_str()), address - best.value);
}

}  // namespace molt::loader
