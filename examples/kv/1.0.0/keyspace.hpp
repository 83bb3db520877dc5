// The keys of kv 1.0.0: strings.
#pragma once

#include "../common/interpreter.hpp"
#include "../common/server_commands.hpp"
#include "../common/string_commands.hpp"
#include "../states/v1.hpp"

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace kv {

using state = v1::state;

/// A view of the store's state while one batch runs.
class keyspace {
 public:
  static constexpr std::string_view version = "1.0.0";
  static std::span<const command<keyspace>> commands();

  explicit keyspace(state& of) : table_{of.keys} {}

  std::string* find(std::string_view key) { return table_.find(named(key)); }
  std::string* find_string(std::string_view key) { return find(key); }
  std::string& find_or_add(std::string_view key) { return table_.find_or_add(named(key)); }
  void assign(std::string_view key, std::string_view value) { table_.find_or_add(named(key)) = value; }
  bool contains(std::string_view key) { return find(key) != nullptr; }
  bool erase(std::string_view key) { return table_.erase(named(key)); }
  [[nodiscard]] std::size_t size() const noexcept { return table_.size(); }
  void clear() { table_ = {}; }

  template <class Visit>
  void each_key(std::size_t part, Visit visit) const {
    for (const auto& [key, place] : table_.parts[part].places) visit(key);
  }

  [[nodiscard]] std::string statistics() const { return "keys=" + std::to_string(size()) + ",expires=0,avg_ttl=0"; }

 private:
  const std::string& named(std::string_view key) { return key_.assign(key); }

  table<std::string>& table_;
  std::string key_;
};

namespace commands_1 {

inline void set(keyspace& keys, words request, reply& answer) {
  if (request.size() > 3) syntax_error();
  keys.assign(request[1], request[2]);
  answer.simple("OK");
}

inline constexpr std::array<command<keyspace>, 1> own{{
    {"set", -3, "write denyoom", 1, 1, 1, &set},
}};
inline constexpr auto all =
    command_table(server_commands<keyspace>::commands, string_commands<keyspace>::commands, own);

}  // namespace commands_1

inline std::span<const command<keyspace>> keyspace::commands() { return commands_1::all; }

}  // namespace kv
