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

TEST(elf_image, reads_bytes_at_any_address) {
  const auto bytes = good_file();
  std::vector<std::byte> shifted(bytes.size() + 1);
  std::copy(bytes.begin(), bytes.end(), shifted.begin() + 1);
  EXPECT_TRUE(inspect_bytes("p.so", std::span{shifted}.subspan(1)));
}

}  // namespace
}  // namespace molt::loader
