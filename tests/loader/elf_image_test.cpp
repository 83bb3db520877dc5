#include "loader/elf_image.hpp"

#include "hand_made.hpp"
#include "loader/inspection.hpp"

#include <elf.h>
#include <gmock/gmock.h>

#include <cstring>
#include <random>

namespace molt::loader {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> good_file() { return testing::read_bytes(testing::hand_made("hand_counter_2")); }

template <class Change>
std::vector<std::byte> with_header(Change change) {
  auto bytes = good_file();
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  change(header);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

void expect_error(const std::vector<std::byte>& bytes, reason why, const std::string& text) {
  const auto seen = inspect_bytes("p.so", bytes);
  ASSERT_FALSE(seen);
  EXPECT_EQ(seen.error().why(), why) << seen.error().text();
  EXPECT_THAT(seen.error().message(), HasSubstr("p.so: "));
  EXPECT_THAT(seen.error().message(), HasSubstr(text));
  EXPECT_FALSE(seen.error().hint().empty());
}

TEST(elf_image, reads_machine_build_id_and_symbols) {
  const auto bytes = good_file();
  const auto image = elf_image::parse("p.so", bytes);
  ASSERT_TRUE(image) << image.error().text();
  EXPECT_EQ(image->machine, host_machine());
  EXPECT_EQ(image->build_id.size(), 40U);
  EXPECT_EQ(image->molt_notes.size(), 1U);
  EXPECT_GT(image->end_address, image->first_address);
  std::vector<std::string_view> exported;
  for (const auto& symbol : image->symbols)
    if (symbol.exported) exported.push_back(symbol.name);
  EXPECT_THAT(exported, ::testing::ElementsAre("molt_plugin"));
}

TEST(elf_image, refuses_what_is_no_elf_file) {
  expect_error(std::vector<std::byte>(1000), reason::invalid_argument, "not an ELF file");
  expect_error({}, reason::invalid_argument, "not an ELF file");
}

TEST(elf_image, refuses_another_class_byte_order_machine_or_type) {
  expect_error(with_header([](auto& h) { h.e_ident[EI_CLASS] = ELFCLASS32; }), reason::invalid_argument, "64-bit");
  expect_error(with_header([](auto& h) { h.e_ident[EI_DATA] = ELFDATA2MSB; }), reason::invalid_argument,
               "little-endian");
  expect_error(with_header([](auto& h) { h.e_machine = EM_RISCV; }), reason::invalid_argument, "machine 243");
  expect_error(with_header([](auto& h) { h.e_type = ET_EXEC; }), reason::invalid_argument, "not a shared object");
  expect_error(with_header([](auto& h) { h.e_type = ET_REL; }), reason::invalid_argument, "not a shared object");
}

TEST(elf_image, refuses_a_program_even_if_position_independent) {
  expect_error(testing::read_bytes("/proc/self/exe"), reason::invalid_argument, "not a shared object");
}

TEST(elf_image, refuses_header_tables_outside_the_file) {
  expect_error(with_header([](auto& h) { h.e_phoff = ~Elf64_Off{0} - 8; }), reason::corrupt, "program headers");
  expect_error(with_header([](auto& h) { h.e_phnum = 0xffff; }), reason::corrupt, "program headers");
  expect_error(with_header([](auto& h) { h.e_phnum = 0; }), reason::corrupt, "program headers");
  expect_error(with_header([](auto& h) { h.e_phentsize = 1; }), reason::corrupt, "program headers");
  expect_error(with_header([](auto& h) { h.e_shoff = ~Elf64_Off{0} - 8; }), reason::corrupt, "section headers");
  expect_error(with_header([](auto& h) { h.e_shnum = 0xfeff; }), reason::corrupt, "section headers");
  expect_error(with_header([](auto& h) { h.e_shnum = 0; }), reason::corrupt, "section headers");
  expect_error(with_header([](auto& h) { h.e_shoff = 0; }), reason::corrupt, "section headers");
}

TEST(elf_image, refuses_a_file_cut_anywhere) {
  const auto whole = good_file();
  for (std::size_t size = 0; size < whole.size(); size += size < 4096 ? 1 : 37) {
    // Exactly as large as the cut, so that a sanitizer sees the first byte read beyond.
    const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    ASSERT_FALSE(inspect_bytes("p.so", cut)) << "cut to " << size << " bytes";
  }
}

TEST(elf_image, survives_every_changed_byte_of_headers_and_tables) {
  auto bytes = good_file();
  const std::size_t tables = std::min<std::size_t>(bytes.size(), 6000);
  for (std::size_t at = 0; at < tables; ++at) {
    for (const unsigned mask : {0xffU, 0x80U, 0x01U}) {
      bytes[at] ^= std::byte(mask);
      (void)inspect_bytes("p.so", bytes);
      bytes[at] ^= std::byte(mask);
    }
  }
}

TEST(elf_image, survives_random_damage) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random{seed};
  const auto whole = good_file();
  for (int round = 0; round < 2000; ++round) {
    auto bytes = whole;
    const auto changes = 1 + random() % 8;
    for (unsigned i = 0; i < changes; ++i) {
      const std::size_t at = random() % 2 == 0 ? random() % 2048 : random() % bytes.size();
      bytes[at] = static_cast<std::byte>(random());
    }
    (void)inspect_bytes("p.so", bytes);
  }
}

// ---- Files that show an inspector something else than what the linker loads

/// A table of a file, to be changed.
template <class Entry>
class table_of {
 public:
  table_of(std::vector<std::byte>& bytes, std::uint64_t offset, std::uint64_t size)
      : bytes_{bytes}, offset_{offset}, count_{size / sizeof(Entry)} {}
  [[nodiscard]] std::uint64_t size() const { return count_; }
  [[nodiscard]] Entry get(std::uint64_t i) const {
    Entry entry;
    std::memcpy(&entry, bytes_.data() + offset_ + i * sizeof entry, sizeof entry);
    return entry;
  }
  void set(std::uint64_t i, const Entry& entry) {
    std::memcpy(bytes_.data() + offset_ + i * sizeof entry, &entry, sizeof entry);
  }
  [[nodiscard]] std::uint64_t offset_of(std::uint64_t i) const { return offset_ + i * sizeof(Entry); }

 private:
  std::vector<std::byte>& bytes_;
  std::uint64_t offset_;
  std::uint64_t count_;
};

table_of<Elf64_Phdr> segments_of(std::vector<std::byte>& bytes) {
  const auto header = table_of<Elf64_Ehdr>{bytes, 0, sizeof(Elf64_Ehdr)}.get(0);
  return {bytes, header.e_phoff, header.e_phnum * sizeof(Elf64_Phdr)};
}

std::uint64_t find_segment(const table_of<Elf64_Phdr>& segments, std::uint32_t type, std::uint64_t from = 0) {
  while (from < segments.size() && segments.get(from).p_type != type) ++from;
  EXPECT_LT(from, segments.size());
  return from;
}

table_of<Elf64_Dyn> dynamic_of(std::vector<std::byte>& bytes) {
  const auto segments = segments_of(bytes);
  const auto dynamic = segments.get(find_segment(segments, PT_DYNAMIC));
  return {bytes, dynamic.p_offset, dynamic.p_filesz};
}

std::uint64_t find_entry(const table_of<Elf64_Dyn>& dynamic, std::int64_t tag) {
  std::uint64_t at = 0;
  while (at < dynamic.size() && dynamic.get(at).d_tag != tag) ++at;
  EXPECT_LT(at, dynamic.size()) << tag;
  return at;
}

TEST(elf_image, counts_the_symbols_that_the_linker_finds_whatever_the_older_hash_table_states) {
  auto bytes = testing::read_bytes(testing::hand_made("hand_both_hash_tables"));
  const auto dynamic = dynamic_of(bytes);
  // It lies in the first segment, which is loaded as it stands.
  const auto chains = dynamic.get(find_entry(dynamic, DT_HASH)).d_un.d_ptr + 4;
  const std::uint32_t fewer = 1;
  std::memcpy(bytes.data() + chains, &fewer, sizeof fewer);
  const auto seen = inspect_bytes("p.so", bytes);
  ASSERT_TRUE(seen) << seen.error().text();
  EXPECT_NE(testing::find(*seen, finding_kind::owns_threads), nullptr);
  EXPECT_EQ(testing::find(*seen, finding_kind::missing_export), nullptr);
}

TEST(elf_image, knows_what_a_file_needs_that_defines_nothing) {
  const auto seen = inspect_bytes("p.so", testing::read_bytes(testing::hand_made("hand_no_export")));
  ASSERT_TRUE(seen) << seen.error().text();
  EXPECT_FALSE(seen->imports.empty());
}

TEST(elf_image, refuses_relocations_of_symbols_that_are_not_there) {
  for (const auto& [table, size] : {std::pair{DT_RELA, DT_RELASZ}, std::pair{DT_JMPREL, DT_PLTRELSZ}}) {
    auto bytes = testing::read_bytes(testing::hand_made("hand_thread"));
    const auto dynamic = dynamic_of(bytes);
    table_of<Elf64_Rela> relocations{bytes, dynamic.get(find_entry(dynamic, table)).d_un.d_ptr,
                                     dynamic.get(find_entry(dynamic, size)).d_un.d_val};
    ASSERT_GT(relocations.size(), 0U);
    const auto last = relocations.size() - 1;
    auto changed = relocations.get(last);
    changed.r_info = ELF64_R_INFO(10'000, ELF64_R_TYPE(changed.r_info));
    relocations.set(last, changed);
    expect_error(bytes, reason::corrupt, "dynamic symbols");
    relocations.set(last, Elf64_Rela{changed.r_offset, 0, 0});
    EXPECT_TRUE(inspect_bytes("p.so", bytes));
  }
}

TEST(elf_image, believes_the_last_of_two_entries_as_the_linker_does) {
  auto bytes = testing::read_bytes(testing::hand_made("hand_unresolved"));
  auto dynamic = dynamic_of(bytes);
  const auto real = find_entry(dynamic, DT_SYMTAB);
  const auto earlier = find_entry(dynamic, DT_INIT);
  ASSERT_LT(earlier, real);
  dynamic.set(earlier, Elf64_Dyn{DT_SYMTAB, {1}});
  const auto seen = inspect_bytes("p.so", bytes);
  ASSERT_TRUE(seen) << seen.error().text();
  EXPECT_TRUE(std::any_of(seen->imports.begin(), seen->imports.end(),
                          [](const symbol_import& one) { return one.name == "nobody_has_this"; }));
}

TEST(elf_image, refuses_a_dynamic_segment_that_is_loaded_from_elsewhere) {
  auto bytes = good_file();
  auto segments = segments_of(bytes);
  const auto at = find_segment(segments, PT_DYNAMIC);
  auto dynamic = segments.get(at);
  dynamic.p_offset -= sizeof(Elf64_Dyn);
  segments.set(at, dynamic);
  expect_error(bytes, reason::corrupt, "loaded from elsewhere");
}

TEST(elf_image, refuses_segments_of_which_one_hides_another) {
  const auto changed = [](auto change) {
    auto bytes = good_file();
    auto segments = segments_of(bytes);
    const auto one = find_segment(segments, PT_LOAD);
    const auto two = find_segment(segments, PT_LOAD, one + 1);
    auto first = segments.get(one);
    auto second = segments.get(two);
    change(first, second);
    segments.set(one, first);
    segments.set(two, second);
    return bytes;
  };
  expect_error(changed([](auto& first, auto& second) { std::swap(first, second); }), reason::corrupt, "out of order");
  expect_error(changed([](auto& first, auto& second) { second.p_vaddr = first.p_vaddr; }), reason::corrupt,
               "out of order, or overlap");
  // In the page in which the first ends: the linker maps that page from where the second says.
  expect_error(changed([](auto& first, auto& second) { second.p_vaddr = first.p_vaddr + first.p_memsz; }),
               reason::corrupt, "out of order, or overlap");
}

TEST(elf_image, reads_bytes_at_any_address) {
  const auto bytes = good_file();
  std::vector<std::byte> shifted(bytes.size() + 1);
  std::copy(bytes.begin(), bytes.end(), shifted.begin() + 1);
  EXPECT_TRUE(inspect_bytes("p.so", std::span{shifted}.subspan(1)));
}

}  // namespace
}  // namespace molt::loader
