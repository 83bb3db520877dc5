// The note of a real plugin: where it stands, and that it says what the table says.
#include "plugin/abi.h"

#include <dlfcn.h>
#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fixture_paths.hpp>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

std::string read_file(const char* path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

template <class T>
T at(std::string_view bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.substr(offset, sizeof(T)).data(), sizeof(T));
  return value;
}

/// The section .note.molt and its header.
std::string_view find_section(const std::string& file, Elf64_Shdr& header) {
  const auto elf = at<Elf64_Ehdr>(file, 0);
  const auto names = at<Elf64_Shdr>(file, elf.e_shoff + elf.e_shstrndx * sizeof(Elf64_Shdr));
  for (unsigned i = 0; i < elf.e_shnum; ++i) {
    header = at<Elf64_Shdr>(file, elf.e_shoff + i * sizeof(Elf64_Shdr));
    if (std::string_view{file.data() + names.sh_offset + header.sh_name} == MOLT_NOTE_SECTION)
      return std::string_view{file}.substr(header.sh_offset, header.sh_size);
  }
  return {};
}

/// Reads records as docs/reference/note-format.md says.
class reader {
 public:
  explicit reader(std::string_view bytes) : left_{bytes} {}
  std::uint64_t number(std::size_t size) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value |= std::uint64_t{static_cast<unsigned char>(left_.at(i))} << (8 * i);
    left_.remove_prefix(size);
    return value;
  }
  std::string_view bytes(std::size_t size) {
    const std::string_view taken = left_.substr(0, size);
    EXPECT_EQ(taken.size(), size);
    left_.remove_prefix(size);
    return taken;
  }
  std::string str() { return std::string{bytes(number(4))}; }
  [[nodiscard]] bool empty() const { return left_.empty(); }

 private:
  std::string_view left_;
};

class a_note : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    file_ = read_file(GetParam());
    note_ = find_section(file_, header_);
    ASSERT_FALSE(note_.empty());
  }

  std::string file_;
  Elf64_Shdr header_{};
  std::string_view note_;
};

TEST_P(a_note, stands_allocated_and_aligned_in_a_section_of_its_own) {
  EXPECT_EQ(header_.sh_type, static_cast<unsigned>(SHT_NOTE));
  EXPECT_EQ(header_.sh_flags, static_cast<unsigned>(SHF_ALLOC));
  EXPECT_EQ(header_.sh_addralign, 4U);
  reader in{note_};
  EXPECT_EQ(in.number(4), 5U);
  EXPECT_EQ(in.number(4), note_.size() - 20);
  EXPECT_EQ(in.number(4), MOLT_NOTE_TYPE);
  EXPECT_EQ(in.bytes(8), (std::string_view{"molt\0\0\0\0", 8}));
}

TEST_P(a_note, says_what_the_table_says) {
  void* handle = dlopen(GetParam(), RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(handle, nullptr) << dlerror();
  const auto* table = reinterpret_cast<molt_plugin_function>(dlsym(handle, MOLT_PLUGIN_SYMBOL))();
  EXPECT_EQ(table->defect, nullptr);
  EXPECT_EQ(table->size, sizeof(molt_plugin_table));

  reader in{note_.substr(20)};
  EXPECT_EQ(in.number(4), 1U);
  EXPECT_EQ(in.number(4), table->abi_version);
  const std::uint64_t count = in.number(4);
  EXPECT_EQ(in.number(4), note_.size() - 36);
  std::map<std::uint64_t, std::vector<std::string_view>> records;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t kind = in.number(2);
    EXPECT_EQ(in.number(2), 0U);
    const std::uint64_t size = in.number(4);
    records[kind].push_back(in.bytes(size));
    EXPECT_EQ(in.bytes((4 - size % 4) % 4).find_first_not_of('\0'), std::string_view::npos);
  }
  EXPECT_TRUE(in.empty());

  ASSERT_EQ(records[1].size(), 1U);
  reader plugin{records[1][0]};
  EXPECT_EQ(plugin.str(), table->name);
  EXPECT_EQ(plugin.str(), table->version);
  EXPECT_EQ(plugin.str(), table->toolchain);
  EXPECT_EQ(plugin.str(), table->build);

  const auto expect_schema = [&](std::uint64_t index, const molt_schema* schema) {
    reader said{records[2].at(index)};
    EXPECT_EQ(said.number(8), schema->fingerprint);
    EXPECT_EQ(said.number(4), schema->size);
    EXPECT_EQ(said.number(4), schema->align);
    EXPECT_EQ(said.number(4), schema->flags);
    EXPECT_EQ(said.number(4), schema->version);
    EXPECT_EQ(said.str(), schema->name);
    EXPECT_EQ(said.str(), schema->text);
  };
  const auto expect_edges = [&](std::uint64_t kind, std::uint32_t type, const molt_edge* edges, std::uint32_t number) {
    ASSERT_EQ(records[kind].size(), number);
    for (std::uint32_t i = 0; i < number; ++i) {
      reader said{records[kind][i]};
      EXPECT_EQ(said.number(4), type);
      expect_schema(said.number(4), edges[i].from);
      expect_schema(said.number(4), edges[i].to);
      EXPECT_EQ(said.number(4), edges[i].flags);
      EXPECT_EQ(said.str(), edges[i].loss == nullptr ? "" : edges[i].loss);
      EXPECT_EQ(said.str(), edges[i].loss_text == nullptr ? "" : edges[i].loss_text);
      if (kind == 5) continue;
      EXPECT_EQ(said.str(), edges[i].message == nullptr ? "" : edges[i].message);
    }
  };

  ASSERT_EQ(table->server_type_count, 1U);
  ASSERT_EQ(records[4].size(), 1U);
  const molt_server_type& type = table->server_types[0];
  reader said{records[4][0]};
  EXPECT_EQ(said.number(4), type.kind);
  expect_schema(said.number(4), type.state);
  EXPECT_EQ(said.str(), type.name);
  ASSERT_EQ(said.number(4), type.handler_count);
  for (std::uint32_t i = 0; i < type.handler_count; ++i) {
    const molt_message* message = type.handlers[i].message;
    reader of_message{records[3].at(said.number(4))};
    EXPECT_EQ(of_message.number(8), message->key);
    expect_schema(of_message.number(4), message->payload);
    const std::uint64_t reply = of_message.number(4);
    if (message->reply == nullptr)
      EXPECT_EQ(reply, 0xffffffffU);
    else
      expect_schema(reply, message->reply);
    EXPECT_EQ(of_message.str(), message->name);
    EXPECT_EQ(said.number(4), type.handlers[i].flags);
  }
  expect_edges(5, 0, type.state_edges, type.state_edge_count);
  expect_edges(6, 0, type.message_edges, type.message_edge_count);
  expect_edges(7, 0, type.reply_edges, type.reply_edge_count);
  EXPECT_EQ(dlclose(handle), 0);
}

INSTANTIATE_TEST_SUITE_P(of, a_note,
                         testing::Values(molt::fixtures::counter_1_0_0, molt::fixtures::counter_2_0_0,
                                         molt::fixtures::counter_3_0_0, molt::fixtures::shared_2_0_0));

TEST(a_misplaced_member, is_found_when_the_plugin_is_loaded) {
  void* handle = dlopen(molt::fixtures::misplaced, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(handle, nullptr) << dlerror();
  const auto* table = reinterpret_cast<molt_plugin_function>(dlsym(handle, MOLT_PLUGIN_SYMBOL))();
  ASSERT_NE(table->defect, nullptr);
  EXPECT_NE(std::string_view{table->defect}.find("another offset"), std::string_view::npos);
  dlclose(handle);
}

}  // namespace
