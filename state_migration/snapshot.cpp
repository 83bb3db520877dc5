#include "state_migration/snapshot.hpp"

#include "plugin/text.hpp"
#include "state_migration/archive_buffer.hpp"


namespace molt::migration {
namespace {

constexpr std::string_view magic = "MOLTSNAP";
constexpr std::size_t header_size = 8 + 4 + 4 + 8 + 4 + 4 + 8 + 8;  // fixed part: see docs/reference/archive-format.md
constexpr std::size_t checksum_offset = header_size - 8;

/// FNV-1a 64, as for fingerprints: any changed byte changes it. Against accident, not against malice.
std::uint64_t checksum_of(std::string_view header, std::string_view rest) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const auto part : {header, rest})
    for (const char byte : part) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3U;
  return hash;
}

template <class Integer>
void put(std::string& out, Integer value) {
  for (std::size_t byte = 0; byte < sizeof value; ++byte)
    out.push_back(static_cast<char>((value >> (8 * byte)) & 0xffU));
}

template <class Integer>
Integer get(std::string_view bytes, std::size_t& at) noexcept {
  Integer value = 0;
  for (std::size_t byte = 0; byte < sizeof value; ++byte)
    value |= static_cast<Integer>(static_cast<Integer>(static_cast<unsigned char>(bytes[at + byte])) << (8 * byte));
  at += sizeof value;
  return value;
}

reason reason_of(int status) noexcept {
  switch (status) {
    case MOLT_BAD_ARCHIVE:
      return reason::corrupt;
    case MOLT_OUT_OF_BOUNDS:
      return reason::out_of_bounds;
    default:
      return reason::hook_failed;
  }
}

error corrupt(std::string what) { return {reason::corrupt, "snapshot: " + std::move(what)}; }

}  // namespace

result<std::string> write_snapshot(const molt_schema& schema, const void* state, std::size_t size_max) {
  archive_buffer buffer{size_max};
  molt_text text;
  if (const int status = buffer.save(schema, state, text); status != MOLT_OK)
    return error{reason_of(status), std::string{schema.name} + ": cannot be archived: " + std::string{text_of(text)}};
  const std::string_view name = schema.name;
  const std::string_view structure = schema.text;
  if (name.size() > snapshot_name_max || structure.size() > snapshot_text_max)
    return error{reason::out_of_bounds,
                 std::string{name.substr(0, 64)} + ": schema name or text too long for a snapshot"};
  const auto payload = buffer.bytes();
  std::string out;
  out.reserve(header_size + name.size() + structure.size() + payload.size());
  out.append(magic);
  put(out, snapshot_format_version);
  put(out, schema.version);
  put(out, schema.fingerprint);
  put(out, static_cast<std::uint32_t>(name.size()));
  put(out, static_cast<std::uint32_t>(structure.size()));
  put(out, static_cast<std::uint64_t>(payload.size()));
  put(out, std::uint64_t{0});
  out.append(name).append(structure).append(payload);
  const std::string_view all = out;
  std::string sum;
  put(sum, checksum_of(all.substr(0, checksum_offset), all.substr(header_size)));
  out.replace(checksum_offset, 8, sum);
  return out;
}

result<snapshot_view> read_snapshot(std::string_view bytes) {
  if (bytes.size() < header_size) return corrupt("cut off in its header");
  if (bytes.substr(0, magic.size()) != magic) return corrupt("does not begin with " + std::string{magic});
  std::size_t at = magic.size();
  if (const auto format = get<std::uint32_t>(bytes, at); format != snapshot_format_version)
    return error{reason::incompatible, "snapshot: format version " + std::to_string(format) + ", this host reads " +
                                           std::to_string(snapshot_format_version)};
  snapshot_view view;
  view.version = get<std::uint32_t>(bytes, at);
  view.fingerprint = get<std::uint64_t>(bytes, at);
  const auto name_size = get<std::uint32_t>(bytes, at);
  const auto text_size = get<std::uint32_t>(bytes, at);
  const auto payload_size = get<std::uint64_t>(bytes, at);
  const auto checksum = get<std::uint64_t>(bytes, at);
  if (name_size > snapshot_name_max || text_size > snapshot_text_max) return corrupt("schema name or text too long");
  const std::uint64_t rest = bytes.size() - header_size;
  if (rest < std::uint64_t{name_size} + text_size || payload_size != rest - name_size - text_size)
    return corrupt("holds " + std::to_string(rest) + " bytes after its header, which states another size");
  if (checksum != checksum_of(bytes.substr(0, checksum_offset), bytes.substr(header_size)))
    return corrupt("its checksum does not fit its bytes");
  view.name = bytes.substr(at, name_size);
  view.text = bytes.substr(at + name_size, text_size);
  view.payload = bytes.substr(at + name_size + text_size);
  return view;
}

result<void> load_snapshot(const snapshot_view& view, const molt_schema& schema, void* storage) {
  const bool older =
      (schema.flags & MOLT_SCHEMA_READS_OLDER) != 0 && view.name == schema.name && view.version < schema.version;
  if (view.fingerprint != schema.fingerprint && !older)
    return error{reason::incompatible, "snapshot of " + std::string{view.name} + " (version " +
                                           std::to_string(view.version) + ") is not a " + schema.name + " (version " +
                                           std::to_string(schema.version) + ")"};
  molt_text text;
  if (const int status = load_all(schema, view.payload, storage, text); status != MOLT_OK)
    return error{reason_of(status), "snapshot of " + std::string{view.name} + ": " + std::string{text_of(text)}};
  return ok();
}

}  // namespace molt::migration
