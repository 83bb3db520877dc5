// The servers that the how-to pages change, before the change.
#include <molt/plugin.hpp>

#include <algorithm>
#include <numeric>

namespace shop::accounts {

struct account {
  std::string name;
  std::int64_t orders = 0;
};
struct state {
  std::map<std::uint64_t, account> all;
};

struct order {
  using reply = std::int64_t;
  std::uint64_t account = 0;
};

struct accounts : molt::server<state> {
  std::int64_t handle_call(molt::context&, const order& message) { return ++self().all[message.account].orders; }
};

}  // namespace shop::accounts

namespace shop::catalogue {

struct item {
  std::string label;
  std::int64_t cnt = 0;
};
struct state {
  std::vector<item> list;
};

struct add_item {
  using reply = std::uint64_t;
  std::string label;
};

struct catalogue : molt::server<state> {
  std::uint64_t handle_call(molt::context&, const add_item& message) {
    self().list.push_back({message.label, 1});
    return self().list.size();
  }
};

}  // namespace shop::catalogue

namespace shop::stock {

struct entry {
  std::string name;
  std::int64_t pieces = 0;
};
struct state {
  std::vector<entry> entries;
};

struct put {
  using reply = std::int64_t;
  std::string name;
  std::int64_t pieces = 0;
};

struct stock : molt::server<state> {
  std::int64_t handle_call(molt::context&, const put& message) {
    auto& entries = self().entries;
    auto found =
        std::find_if(entries.begin(), entries.end(), [&](const entry& each) { return each.name == message.name; });
    if (found == entries.end()) found = entries.insert(entries.end(), {message.name, 0});
    return found->pieces += message.pieces;
  }
};

}  // namespace shop::stock

namespace shop::audit {

struct state {
  std::vector<std::string> lines;
};

struct note {
  using reply = std::uint64_t;
  std::string line;
};

struct audit : molt::server<state> {
  std::uint64_t handle_call(molt::context&, const note& message) {
    self().lines.push_back(message.line);
    return self().lines.size();
  }
};

}  // namespace shop::audit

namespace sessions {

struct session {
  std::string user;
  std::int64_t hits = 0;
};
struct state {
  std::unordered_map<std::uint64_t, session> live;
};

struct touch {
  using reply = std::int64_t;
  std::uint64_t id = 0;
};

struct server : molt::server<state> {
  std::int64_t handle_call(molt::context&, const touch& message) { return ++self().live[message.id].hits; }
};

}  // namespace sessions

MOLT_PLUGIN("shop", "1.0.0", shop::accounts::accounts, shop::catalogue::catalogue, shop::stock::stock,
            shop::audit::audit, sessions::server)
