// The keys of kv 3.0.0: strings and lists that may expire and count how often they are read.
#pragma once

#include "../common/expiring_keys.hpp"
#include "../common/expiry_commands.hpp"
#include "../common/interpreter.hpp"
#include "../common/server_commands.hpp"
#include "../common/string_commands.hpp"
#include "../states/v3.hpp"
#include "list_commands.hpp"

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace kv {

using state = v3::state;

class keyspace : public expiring_keys<state, v3::entry> {
 public:
  static constexpr std::string_view version = "3.0.0";
  static std::span<const command<keyspace>> commands();

  using expiring_keys::expiring_keys;

  std::string* find(std::string_view key) {
    v3::entry* const found = read(key);
    return found ? &held<std::string>(*found) : nullptr;
  }
  std::string* find_string(std::string_view key) {
    v3::entry* const found = read(key);
    return found ? std::get_if<std::string>(&found->value) : nullptr;
  }
  std::string& find_or_add(std::string_view key) { return held<std::string>(living_or_new(key)); }
  void assign(std::string_view key, std::string_view value) {
    v3::entry& entry = living_or_new(key);
    set_deadline(key, entry, 0);
    if (auto* const text = std::get_if<std::string>(&entry.value))
      *text = value;
    else
      entry.value = std::string{value};
  }

  v3::list* find_list(std::string_view key) {
    v3::entry* const found = read(key);
    return found ? held<std::unique_ptr<v3::list>>(*found).get() : nullptr;
  }
  v3::list& list_or_new(std::string_view key) {
    v3::entry* found = living(key);
    if (!found) {
      found = &living_or_new(key);
      found->value = std::make_unique<v3::list>();
    }
    return *held<std::unique_ptr<v3::list>>(*found);
  }

  std::string_view type_of(std::string_view key) {
    const v3::entry* const found = living(key);
    if (!found) return "none";
    return std::holds_alternative<std::string>(found->value) ? "string" : "list";
  }

 private:
  v3::entry* read(std::string_view key) {
    v3::entry* const found = living(key);
    if (found) ++found->hits;
    return found;
  }

  template <class Kind>
  static Kind& held(v3::entry& entry) {
    auto* const value = std::get_if<Kind>(&entry.value);
    if (!value) throw command_error{"WRONGTYPE Operation against a key holding the wrong kind of value"};
    return *value;
  }
};

namespace commands_3 {

inline constexpr auto all = command_table(server_commands<keyspace>::commands, string_commands<keyspace>::commands,
                                          expiry_commands<keyspace>::commands, list_commands<keyspace>::commands);

}  // namespace commands_3

inline std::span<const command<keyspace>> keyspace::commands() { return commands_3::all; }

}  // namespace kv
