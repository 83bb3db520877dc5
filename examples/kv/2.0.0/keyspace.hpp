// The keys of kv 2.0.0: strings that may expire and count how often they are read.
#pragma once

#include "../common/expiring_keys.hpp"
#include "../common/expiry_commands.hpp"
#include "../common/interpreter.hpp"
#include "../common/server_commands.hpp"
#include "../common/string_commands.hpp"
#include "../states/v2.hpp"

#include <span>
#include <string>
#include <string_view>

namespace kv {

using state = v2::state;

class keyspace : public expiring_keys<state, v2::entry> {
 public:
  static constexpr std::string_view version = "2.0.0";
  static std::span<const command<keyspace>> commands();

  using expiring_keys::expiring_keys;

  std::string* find(std::string_view key) {
    v2::entry* const found = living(key);
    if (!found) return nullptr;
    ++found->hits;
    return &found->text;
  }
  std::string* find_string(std::string_view key) { return find(key); }
  std::string& find_or_add(std::string_view key) { return living_or_new(key).text; }
  void assign(std::string_view key, std::string_view value) {
    v2::entry& entry = living_or_new(key);
    set_deadline(key, entry, 0);
    entry.text = value;
  }
};

namespace commands_2 {

inline constexpr auto all = command_table(server_commands<keyspace>::commands, string_commands<keyspace>::commands,
                                          expiry_commands<keyspace>::commands);

}  // namespace commands_2

inline std::span<const command<keyspace>> keyspace::commands() { return commands_2::all; }

}  // namespace kv
