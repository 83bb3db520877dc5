#include "releases/manifest.hpp"

#include "base/durable_file.hpp"
#include "loader/sha256.hpp"
#include "releases/manifest_table.hpp"

#include <arpa/inet.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <exception>
#include <map>

namespace molt::releases {

using detail::manifest_table;

std::string_view to_string(restart_kind kind) noexcept {
  switch (kind) {
    case restart_kind::permanent:
      return "permanent";
    case restart_kind::transient:
      return "transient";
    case restart_kind::temporary:
      return "temporary";
  }
  return "";
}

std::string_view to_string(strategy_kind kind) noexcept {
  switch (kind) {
    case strategy_kind::one_for_one:
      return "one_for_one";
    case strategy_kind::one_for_all:
      return "one_for_all";
    case strategy_kind::rest_for_one:
      return "rest_for_one";
    case strategy_kind::dynamic:
      return "dynamic";
  }
  return "";
}

std::string_view to_string(auto_shutdown_kind kind) noexcept {
  switch (kind) {
    case auto_shutdown_kind::never:
      return "never";
    case auto_shutdown_kind::any_significant:
      return "any_significant";
    case auto_shutdown_kind::all_significant:
      return "all_significant";
  }
  return "";
}

std::string_view to_string(upgrade_mode mode) noexcept { return mode == upgrade_mode::lazy ? "lazy" : "atomic"; }

std::string_view to_string(replay_kind kind) noexcept {
  switch (kind) {
    case replay_kind::report:
      return "report";
    case replay_kind::strict:
      return "strict";
    case replay_kind::off:
      break;
  }
  return "off";
}
std::string_view to_string(failure_policy policy) noexcept {
  return policy == failure_policy::rollback ? "rollback" : "quarantine";
}

bool is_name(std::string_view text) noexcept {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  return !text.empty() && text.size() <= name_bytes_max && text.front() != '.' && text.front() != '-' &&
         std::all_of(text.begin(), text.end(), allowed);
}

bool is_contained_path(std::string_view path) noexcept {
  if (path.empty() || path.size() > path_bytes_max) return false;
  const auto odd = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '\\'; };
  if (std::any_of(path.begin(), path.end(), odd)) return false;
  while (true) {
    const auto slash = path.find('/');
    const auto component = path.substr(0, slash);
    if (component.empty() || component == "." || component == ".." || component.size() > 255) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

std::string listen_address::text() const { return (ipv6 ? '[' + host + ']' : host) + ':' + std::to_string(port); }

result<listen_address> parse_listen_address(std::string_view text) {
  const auto wrong = [&](std::string_view why) {
    return error{reason::invalid_argument, '"' + detail::shown(text) + "\" is no address: " + std::string{why} +
                                               "; write \"127.0.0.1:6379\" or \"[::1]:6379\""};
  };
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong("the port is missing");
  listen_address address;
  auto host = text.substr(0, colon);
  const auto port = text.substr(colon + 1);
  const auto [end, failed] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  if (port.empty() || failed != std::errc{} || end != port.data() + port.size())
    return wrong("the port must be a number from 0 to 65535");
  address.ipv6 = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (address.ipv6) host = host.substr(1, host.size() - 2);
  address.host = host;
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  if (address.host.find('\0') != std::string::npos ||
      ::inet_pton(address.ipv6 ? AF_INET6 : AF_INET, address.host.c_str(), bytes.data()) != 1)
    return wrong("the host must be a literal IPv4 address, or an IPv6 address in brackets");
  return address;
}

namespace {

/// Dotted keys nest tables without the parser's bound, and a table is destroyed recursively: so they are bounded
/// before. Returns the line that has too many, or 0.
[[nodiscard]] unsigned line_with_too_many_dots(std::string_view text) {
  unsigned line = 1;
  std::size_t dots = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"' || c == '\'') {  // skip the string; an unfinished one is the parser's to report
      const bool basic = c == '"';
      const std::string_view triple = basic ? "\"\"\"" : "'''";
      const bool multi_line = text.substr(i, 3) == triple;
      i += multi_line ? 3 : 1;
      for (; i < text.size(); ++i) {
        if (text[i] == '\n') {
          ++line;
          if (!multi_line) break;
        }
        if (basic && text[i] == '\\') {
          if (i + 1 < text.size() && text[i + 1] != '\n') ++i;
        } else if (multi_line ? text.substr(i, 3) == triple : text[i] == c) {
          if (multi_line)  // up to two quotes may stand right before the closing three
            for (i += 2; text.substr(i + 1, 1) == triple.substr(0, 1);) ++i;
          break;
        }
      }
    } else if (c == '#') {
      const auto end = text.find('\n', i);
      i = end == std::string_view::npos ? text.size() : end - 1;
    } else if (c == '.') {
      if (++dots > key_dots_max) return line;
    } else if (c == '\n' || c == '=' || c == ',' || c == '{' || c == '[') {
      dots = 0;
      if (c == '\n') ++line;
    }
  }
  return 0;
}

result<toml::table> parse_toml(std::string_view text, std::string_view shown_as) {
  const std::string file{shown_as};
  if (text.size() > manifest_bytes_max)
    return error{reason::out_of_bounds, file + ": larger than " + std::to_string(manifest_bytes_max) + " bytes"};
  if (const unsigned line = line_with_too_many_dots(text); line != 0)
    return error{reason::out_of_bounds, file + ':' + std::to_string(line) + ": a key with more than " +
                                            std::to_string(key_dots_max) + " dots"};
  try {
    return toml::parse(text, shown_as);
  } catch (const toml::parse_error& failed) {
    return error{reason::invalid_argument,
                 file + ':' + std::to_string(failed.source().begin.line) + ": " + detail::shown(failed.description())};
  } catch (const std::exception& failed) {
    return error{reason::invalid_argument, file + ": " + detail::shown(failed.what())};
  }
}

/// Reads the parts of one manifest; the first error ends it.
class manifest_reader {
 public:
  manifest_reader(const toml::table& root, std::string_view shown_as) : root_{root}, shown_as_{shown_as} {}

  result<manifest> read() {
    manifest_table top{root_, shown_as_, ""};
    top.only({"release", "plugin", "supervisor", "server", "listener", "upgrade"});
    MOLT_CHECK(top.check());
    MOLT_CHECK(table(
        "release", [&](manifest_table& t) { release(t); }, true));
    MOLT_CHECK(array("plugin", plugins_max, [&](manifest_table& t) { plugin(t); }));
    if (result_.plugins.empty())
      return error{reason::invalid_argument, shown_as_ + ":1: a release needs at least one [[plugin]]"};
    MOLT_CHECK(table("supervisor", [&](manifest_table& t) { root_supervisor(t); }));
    MOLT_CHECK(supervisors());
    MOLT_CHECK(array("server", servers_max, [&](manifest_table& t) { server(t); }));
    MOLT_CHECK(array("listener", listeners_max, [&](manifest_table& t) { listener(t); }));
    MOLT_CHECK(table("upgrade", [&](manifest_table& t) { upgrade(t); }));
    return std::move(result_);
  }

 private:
  template <class Read>
  result<void> table(std::string_view key, Read read, bool required = false) {
    const auto* node = root_.get(key);
    const std::string title = '[' + std::string{key} + ']';
    if (node == nullptr) {
      if (required) return error{reason::invalid_argument, shown_as_ + ":1: the table " + title + " is missing"};
      return ok();
    }
    if (!node->is_table())
      return error{reason::invalid_argument, at(*node) + title + " must be a table: write " + title + " on a line"};
    manifest_table t{*node->as_table(), shown_as_, title};
    read(t);
    return t.check();
  }

  template <class Read>
  result<void> array(std::string_view key, std::size_t count_max, Read read) {
    const auto* node = root_.get(key);
    if (node == nullptr) return ok();
    const std::string title = "[[" + std::string{key} + "]]";
    const auto* tables = node->as_array();
    if (tables == nullptr)
      return error{reason::invalid_argument,
                   at(*node) + '"' + std::string{key} + "\" must be an array of tables: write " + title + " on a line"};
    if (tables->size() > count_max)
      return error{reason::out_of_bounds, at(*node) + "more than " + std::to_string(count_max) + ' ' + title};
    for (const auto& element : *tables) {
      if (!element.is_table())
        return error{reason::invalid_argument, at(element) + title + " must be a table: write " + title + " on a line"};
      manifest_table t{*element.as_table(), shown_as_, title};
      read(t);
      MOLT_CHECK(t.check());
    }
    return ok();
  }

  void release(manifest_table& t) {
    t.only({"name", "version"});
    result_.name = t.required_name("name");
    result_.version = t.required_name("version");
    if (!t.failed() && result_.id().size() > name_bytes_max) t.fail(t.line(), "name and version together are too long");
  }

  void plugin(manifest_table& t) {
    plugin_entry entry;
    entry.line = t.line();
    entry.name = t.required_name("name");
    t.set_name(entry.name);
    t.only({"name", "version", "file"});
    entry.version = t.required_name("version");
    entry.file = t.required_text("file");
    if (!t.failed() && !is_contained_path(entry.file))
      t.fail_at("file", "\"file\" must be a path below the manifest's folder, as in \"plugins/lib" + entry.name + '-' +
                            entry.version + ".so\", not " + quoted(entry.file));
    unique(t, plugin_names_, "name", entry.name, entry.line);
    unique(t, plugin_files_, "file", entry.file, entry.line);
    result_.plugins.push_back(std::move(entry));
  }

  static void read_settings(manifest_table& t, supervisor_settings& s) {
    s.intensity = static_cast<std::uint32_t>(t.integer("intensity", s.intensity, 0, 1000));
    s.period = t.duration("period_ms", s.period, std::chrono::milliseconds{1});
  }

  void root_supervisor(manifest_table& t) {
    t.only({"strategy", "intensity", "period_ms"}, true);
    auto& s = result_.supervisor;
    s.strategy = t.one_of("strategy", s.strategy,
                          {strategy_kind::one_for_one, strategy_kind::one_for_all, strategy_kind::rest_for_one});
    read_settings(t, s);
  }

  /// The tables below [supervisor], each a supervisor.
  result<void> supervisors() {
    const auto* root = root_.get_as<toml::table>("supervisor");
    if (root == nullptr) return ok();
    std::vector<std::pair<std::string, const toml::table*>> named;
    for (const auto& [key, value] : *root)
      if (value.is_table()) named.emplace_back(key.str(), value.as_table());
    if (named.size() > supervisors_max)
      return error{reason::out_of_bounds, at(*root) + "more than " + std::to_string(supervisors_max) + " supervisors"};
    for (const auto& [name, read] : named) {
      manifest_table t{*read, shown_as_, "[supervisor." + detail::shown(name) + ']'};
      supervisor(t, name, *read);
      MOLT_CHECK(t.check());
    }
    std::sort(result_.supervisors.begin(), result_.supervisors.end(),
              [](const auto& a, const auto& b) { return a.at < b.at; });
    for (const auto& [name, read] : named) {
      manifest_table t{*read, shown_as_, "[supervisor." + name + ']'};
      check_parents(t, name);
      if (const auto* entry = find_supervisor(name); entry->significant)
        check_significant(t, entry->restart, entry->parent);
      MOLT_CHECK(t.check());
    }
    return ok();
  }

  void supervisor(manifest_table& t, const std::string& name, const toml::table& read) {
    supervisor_entry entry;
    entry.at = t.at();
    entry.name = name;
    if (!is_name(name)) t.fail(t.line(), "a supervisor's name must be letters, digits and . _ -");
    if (name == "root") t.fail(t.line(), "root is the supervisor that [supervisor] is about");
    entry.settings.strategy = t.one_of(
        "strategy", entry.settings.strategy,
        {strategy_kind::one_for_one, strategy_kind::one_for_all, strategy_kind::rest_for_one, strategy_kind::dynamic});
    const bool dynamic = entry.settings.strategy == strategy_kind::dynamic;
    if (dynamic)
      t.only({"strategy", "intensity", "period_ms", "auto_shutdown", "parent", "restart", "significant", "children_max",
              "child"});
    else
      t.only({"strategy", "intensity", "period_ms", "auto_shutdown", "parent", "restart", "significant"});
    read_settings(t, entry.settings);
    entry.settings.auto_shutdown =
        t.one_of("auto_shutdown", entry.settings.auto_shutdown,
                 {auto_shutdown_kind::never, auto_shutdown_kind::any_significant, auto_shutdown_kind::all_significant});
    entry.parent = supervisor_name(t, "parent");
    entry.restart = restart_of(t, entry.restart);
    entry.significant = t.boolean("significant", entry.significant);
    entry.children_max = static_cast<std::uint32_t>(t.integer("children_max", entry.children_max, 1, children_limit));
    if (dynamic && !t.failed()) child(t, name, read.get("child"), entry);
    supervisor_lines_.emplace(name, entry.at.line);
    result_.supervisors.push_back(std::move(entry));
  }

  void child(manifest_table& supervisor, const std::string& name, const toml::node* node, supervisor_entry& above) {
    child_entry& entry = above.child;
    if (node == nullptr || !node->is_table())
      return supervisor.fail(supervisor.line(), "a dynamic supervisor needs a table [supervisor." + name +
                                                    ".child] with the \"type\" of its children");
    manifest_table t{*node->as_table(), shown_as_, "[supervisor." + name + ".child]"};
    t.only({"type", "restart", "significant", "shutdown_ms", "arguments"});
    entry.line = t.line();
    entry.type = t.required_name("type");
    type_has_plugin(t, "type", entry.type);
    entry.restart = restart_of(t, entry.restart);
    entry.significant = t.boolean("significant", entry.significant);
    if (entry.significant) check_significant(t, entry.restart, name, above.settings.auto_shutdown);
    entry.shutdown = t.shutdown("shutdown_ms", entry.shutdown);
    entry.arguments = t.arguments("arguments");
    supervisor.take_failure(t);
  }

  /// As OTP's supervisor has it.
  static void check_significant(manifest_table& t, restart_kind restart, const std::string& supervisor,
                                auto_shutdown_kind above) {
    if (t.failed()) return;
    if (restart == restart_kind::permanent)
      t.fail_at("significant",
                "\"significant\": what is permanent never ends by itself; \"restart\" must be \"transient\" or "
                "\"temporary\"");
    else if (above == auto_shutdown_kind::never)
      t.fail_at("significant", supervisor.empty() ? std::string{"\"significant\": the root never shuts down by itself"}
                                                  : "\"significant\": the \"auto_shutdown\" of the supervisor " +
                                                        supervisor + " is \"never\"");
  }
  void check_significant(manifest_table& t, restart_kind restart, const std::string& supervisor) const {
    const auto* found = find_supervisor(supervisor);
    check_significant(t, restart, supervisor,
                      found != nullptr ? found->settings.auto_shutdown : auto_shutdown_kind::never);
  }

  static restart_kind restart_of(manifest_table& t, restart_kind otherwise) {
    return t.one_of("restart", otherwise, {restart_kind::permanent, restart_kind::transient, restart_kind::temporary});
  }

  /// A supervisor's name; empty for the root.
  static std::string supervisor_name(manifest_table& t, std::string_view key) {
    auto name = t.optional_name(key);
    return name == "root" ? std::string{} : name;
  }

  [[nodiscard]] const supervisor_entry* find_supervisor(std::string_view name) const {
    const auto found = std::find_if(result_.supervisors.begin(), result_.supervisors.end(),
                                    [&](const auto& each) { return each.name == name; });
    return found != result_.supervisors.end() ? &*found : nullptr;
  }

  /// The supervisor that `key` names is there and can have children of its own.
  void check_supervisor(manifest_table& t, std::string_view key, const std::string& name) const {
    if (name.empty() || t.failed()) return;
    const auto* found = find_supervisor(name);
    if (found == nullptr)
      t.fail_at(key, '"' + std::string{key} + "\": there is no [supervisor." + name + ']');
    else if (found->settings.strategy == strategy_kind::dynamic)
      t.fail_at(key, '"' + std::string{key} + "\": the supervisor " + name +
                         " is dynamic: its children are started while it runs");
  }

  void check_parents(manifest_table& t, const std::string& name) const {
    std::string way = name;
    std::vector<std::string_view> seen{name};
    for (const auto* each = find_supervisor(name); !each->parent.empty(); each = find_supervisor(each->parent)) {
      if (each->name == name) check_supervisor(t, "parent", each->parent);
      if (t.failed() || find_supervisor(each->parent) == nullptr)
        return;  // or reported with the one whose parent it is
      way += " -> " + each->parent;
      if (each->parent == name) return t.fail_at("parent", "its parents lead back to it: " + way);
      if (std::find(seen.begin(), seen.end(), each->parent) != seen.end()) return;  // a circle of others
      seen.push_back(each->parent);
      if (seen.size() >= supervisors_depth_max)
        return t.fail(t.line(), "more than " + std::to_string(supervisors_depth_max) + " supervisors below each other",
                      reason::out_of_bounds);
    }
  }

  void server(manifest_table& t) {
    server_entry entry;
    entry.line = t.line();
    entry.name = t.required_name("name");
    t.set_name(entry.name);
    t.only({"name", "type", "supervisor", "restart", "significant", "shutdown_ms", "record_messages",
            "record_payload_bytes", "arguments"});
    entry.at = t.at();
    entry.type = t.required_name("type");
    type_has_plugin(t, "type", entry.type);
    entry.supervisor = supervisor_name(t, "supervisor");
    check_supervisor(t, "supervisor", entry.supervisor);
    entry.restart = restart_of(t, entry.restart);
    entry.significant = t.boolean("significant", entry.significant);
    if (entry.significant) check_significant(t, entry.restart, entry.supervisor);
    entry.shutdown = t.shutdown("shutdown_ms", entry.shutdown);
    recorded(t, entry);
    entry.arguments = t.arguments("arguments");
    if (const auto other = supervisor_lines_.find(entry.name); other != supervisor_lines_.end())
      t.fail_at("name", "duplicate name " + quoted(entry.name) + ", first on line " + std::to_string(other->second) +
                            ", of a supervisor");
    unique(t, server_names_, "name", entry.name, entry.line);
    result_.servers.push_back(std::move(entry));
  }

  void recorded(manifest_table& t, server_entry& entry) {
    entry.record_messages = static_cast<std::uint32_t>(t.integer("record_messages", 0, 0, record_messages_limit));
    entry.record_payload_bytes =
        static_cast<std::uint32_t>(t.integer("record_payload_bytes", 0, 0, record_payload_bytes_limit));
    if (entry.record_payload_bytes != 0 && entry.record_messages == 0)
      t.fail_at("record_payload_bytes", "\"record_payload_bytes\" without \"record_messages\" keeps nothing");
    if (entry.record_messages != 0 && ++recorded_servers_ > recorded_servers_max)
      t.fail_at("record_messages",
                "\"record_messages\": more than " + std::to_string(recorded_servers_max) + " servers have it");
  }

  void listener(manifest_table& t) {
    listener_entry entry;
    entry.line = t.line();
    entry.name = t.required_name("name");
    t.set_name(entry.name);
    t.only({"name", "address", "connection", "connections_max", "arguments"});
    const auto address = t.required_text("address");
    if (!t.failed()) {
      if (auto parsed = parse_listen_address(address))
        entry.address = std::move(*parsed);
      else
        t.fail_at("address", "\"address\": " + parsed.error().message());
    }
    entry.connection = t.required_name("connection");
    type_has_plugin(t, "connection", entry.connection);
    entry.connections_max =
        static_cast<std::uint32_t>(t.integer("connections_max", entry.connections_max, 1, connections_limit));
    entry.arguments = t.arguments("arguments");
    unique(t, listener_names_, "name", entry.name, entry.line);
    if (entry.address.port != 0) unique(t, addresses_, "address", entry.address.text(), entry.line);
    result_.listeners.push_back(std::move(entry));
  }

  void upgrade(manifest_table& t) {
    t.only({"mode", "hook_timeout_ms", "hook_memory_mb", "switch_timeout_ms", "on_failure", "one_way", "keep_states",
            "keep_states_mb", "rehearsal_replay", "arguments", "rehearsal_timeout_ms", "rehearsal_cpu_ms",
            "rehearsal_memory_mb", "keep_images", "tripwire_ms"});
    auto& u = result_.upgrade;
    u.mode = t.one_of("mode", u.mode, {upgrade_mode::lazy, upgrade_mode::atomic});
    u.hook_timeout = t.duration("hook_timeout_ms", u.hook_timeout, std::chrono::milliseconds{1});
    u.switch_timeout = t.duration("switch_timeout_ms", u.switch_timeout, std::chrono::milliseconds{1});
    u.rehearsal_replay =
        t.one_of("rehearsal_replay", u.rehearsal_replay, {replay_kind::off, replay_kind::report, replay_kind::strict});
    u.on_failure = t.one_of("on_failure", u.on_failure, {failure_policy::rollback, failure_policy::quarantine});
    u.one_way = t.boolean("one_way", u.one_way);
    u.keep_states = t.boolean("keep_states", u.keep_states);
    u.rehearsal_timeout = t.duration("rehearsal_timeout_ms", u.rehearsal_timeout, std::chrono::milliseconds{1});
    u.rehearsal_cpu = t.duration("rehearsal_cpu_ms", u.rehearsal_cpu, std::chrono::milliseconds{1});
    u.rehearsal_memory_mb = static_cast<std::uint32_t>(
        t.integer("rehearsal_memory_mb", u.rehearsal_memory_mb, 1, rehearsal_memory_limit_mb));
    u.keep_states_mb =
        static_cast<std::uint32_t>(t.integer("keep_states_mb", u.keep_states_mb, 1, rehearsal_memory_limit_mb));
    u.hook_memory_mb =
        static_cast<std::uint32_t>(t.integer("hook_memory_mb", u.hook_memory_mb, 1, rehearsal_memory_limit_mb));
    u.keep_images = t.boolean("keep_images", u.keep_images);
    u.tripwire = t.duration("tripwire_ms", u.tripwire, std::chrono::milliseconds{0});
    u.arguments = t.arguments("arguments");
  }

  using first_lines = std::map<std::string, unsigned, std::less<>>;
  static void unique(manifest_table& t, first_lines& seen, std::string_view key, const std::string& value,
                     unsigned line) {
    if (t.failed()) return;
    const auto [first, added] = seen.try_emplace(value, line);
    if (!added)
      t.fail_at(key, "duplicate " + std::string{key} + ' ' + quoted(value) + ", first on line " +
                         std::to_string(first->second));
  }

  /// A server type is named "<plugin>.<type>".
  void type_has_plugin(manifest_table& t, std::string_view key, const std::string& type) const {
    if (t.failed()) return;
    const auto owns = [&](const plugin_entry& entry) {
      return type.size() > entry.name.size() + 1 && type.starts_with(entry.name) && type[entry.name.size()] == '.';
    };
    if (std::any_of(result_.plugins.begin(), result_.plugins.end(), owns)) return;
    t.fail_at(key, '"' + std::string{key} + "\": " + quoted(type) +
                       " belongs to no [[plugin]] of this release; a type is written \"plugin.type\"");
  }

  [[nodiscard]] static std::string quoted(std::string_view text) { return '"' + detail::shown(text) + '"'; }
  [[nodiscard]] std::string at(const toml::node& node) const {
    return shown_as_ + ':' + std::to_string(node.source().begin.line) + ": ";
  }

  const toml::table& root_;
  std::string shown_as_;
  manifest result_;
  first_lines plugin_names_;
  first_lines plugin_files_;
  first_lines supervisor_lines_;
  first_lines server_names_;
  first_lines listener_names_;
  first_lines addresses_;
  std::size_t recorded_servers_ = 0;
};

/// Every component of `path` below `folder` is what it seems: no link leads elsewhere, and the last is a regular file.
result<void> check_regular_file(const std::filesystem::path& folder, const std::string& path) {
  std::filesystem::path here = folder;
  struct stat status {};
  for (const auto& component : std::filesystem::path{path}) {
    here /= component;
    if (::lstat(here.c_str(), &status) != 0) {
      const int number = errno;
      if (number == ENOENT || number == ENOTDIR)
        return error{reason::not_found, "the file \"" + path + "\" is not there"};
      return system_error("looking at", here, number);
    }
    if (S_ISLNK(status.st_mode))
      return error{reason::refused, "the file \"" + path + "\" is reached by a symbolic link"};
  }
  if (!S_ISREG(status.st_mode)) return error{reason::refused, "\"" + path + "\" is not a regular file"};
  return ok();
}

}  // namespace

result<manifest> parse_manifest(std::string_view text, std::string_view shown_as) {
  MOLT_TRY(const toml::table root, parse_toml(text, shown_as));
  return manifest_reader{root, shown_as}.read();
}

result<manifest> read_manifest(const std::filesystem::path& folder, std::string_view sha256) {
  const auto file = folder / manifest_file_name;
  auto text = read_file(file, manifest_bytes_max);
  if (!text) {
    if (text.error().why() == reason::not_found)
      return error{reason::not_found, folder.string() + ": no release.toml in it",
                   "a release folder holds release.toml and the plugins it names"};
    return std::move(text).error();
  }
  if (!sha256.empty()) {
    loader::sha256 found;
    found.add(*text);
    if (found.hex() != sha256)
      return error{reason::corrupt, file.string() + ": has changed since it was installed",
                   "install the package that it came from again: that repairs it"};
  }
  MOLT_TRY(auto read, parse_manifest(*text, file.string()));
  for (const auto& plugin : read.plugins) {
    if (auto there = check_regular_file(folder, plugin.file); !there)
      return std::move(there).error().with(file.string() + ':' + std::to_string(plugin.line) + ": [[plugin]] " +
                                           plugin.name);
  }
  return read;
}

}  // namespace molt::releases
