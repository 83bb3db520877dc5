// Any bytes as a package, and as the contents list in one. A raw tar is read as well as a compressed one, so that
// changes to it reach the reader.
#include "base/assert.hpp"
#include "releases/package_reader.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace {

void check(const std::vector<molt::releases::content_entry>& list) {
  using namespace molt::releases;
  MOLT_ASSERT(list.size() <= package_files_max);
  std::uint64_t total = 0;
  for (const auto& entry : list) {
    MOLT_ASSERT(is_contained_path(entry.path) && entry.sha256.size() == 64);
    total += entry.size;
  }
  MOLT_ASSERT(total <= package_bytes_max);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace molt::releases;
  const std::string_view text{reinterpret_cast<const char*>(data), size};
  if (const auto list = parse_contents(text)) {
    check(*list);
    MOLT_ASSERT(print_contents(*list) == text);
  }
  auto reader = package_reader::open(std::as_bytes(std::span{data, size}));
  if (!reader) return 0;
  const auto list = reader->contents();
  if (!list) return 0;
  check(*list);
  (void)reader->for_each_file(*list, [](const content_entry& entry, const package_reader::read_bytes& bytes) {
    std::uint64_t got = 0;
    auto read = bytes([&](std::string_view piece) {
      got += piece.size();
      MOLT_ASSERT(got <= entry.size);
      return molt::ok();
    });
    if (read) MOLT_ASSERT(got == entry.size);
    return read;
  });
  return 0;
}
