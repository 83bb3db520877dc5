// Any bytes as a release.toml: an error that says where, or a manifest that holds what manifest.hpp promises.
#include "base/assert.hpp"
#include "releases/manifest.hpp"

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace molt::releases;
  const auto read = parse_manifest({reinterpret_cast<const char*>(data), size});
  if (!read) {
    const std::string message = read.error().message();
    MOLT_ASSERT(message.starts_with("release.toml:"), message);
    for (const char c : message) MOLT_ASSERT(static_cast<unsigned char>(c) >= 0x20 || c == '\n', message);
    return 0;
  }
  MOLT_ASSERT(is_name(read->id()));
  MOLT_ASSERT(!read->plugins.empty() && read->plugins.size() <= plugins_max);
  std::set<std::string> names;
  for (const auto& plugin : read->plugins) {
    MOLT_ASSERT(is_name(plugin.name) && is_name(plugin.version) && is_contained_path(plugin.file));
    MOLT_ASSERT(names.insert(plugin.name).second);
  }
  names.clear();
  for (const auto& server : read->servers) {
    MOLT_ASSERT(is_name(server.name) && is_name(server.type));
    MOLT_ASSERT(server.shutdown <= duration_max || server.shutdown == shutdown_infinity);
    MOLT_ASSERT(names.insert(server.name).second);
  }
  names.clear();
  for (const auto& listener : read->listeners) {
    MOLT_ASSERT(names.insert(listener.name).second);
    const auto again = parse_listen_address(listener.address.text());
    MOLT_ASSERT(again.has_value() && *again == listener.address);
  }
  return 0;
}
