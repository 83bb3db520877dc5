// Any request about servers: it is answered with JSON, whatever was asked the server answers calls, and its state is
// one that self_check accepts. The first line is method, path and query, the rest the body.
#include "base/assert.hpp"
#include "node/api_error.hpp"
#include "node/server_api.hpp"

#include <molt/plugin.hpp>

#include <boost/json.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace fuzzed {

struct part {
  std::optional<std::string> text;
  std::variant<std::int32_t, double, std::vector<bool>> value;
};
struct state {
  std::uint8_t small = 0;
  std::map<std::string, part> parts;
  std::map<std::int64_t, char> letters;
  std::vector<std::vector<std::uint16_t>> table;
};
struct read_small {
  using reply = std::uint8_t;
};
struct server : molt::server<state> {
  using messages = molt::messages<read_small>;
  std::uint8_t handle_call(molt::context&, const read_small&) { return self().small; }
  void self_check() const {
    if (self().small > 100) throw std::runtime_error{"too large"};
  }
};

}  // namespace fuzzed

namespace {

class only_release final : public molt::servers::release {
 public:
  void adopt(molt::servers::resting_server&) const noexcept override {}
  [[nodiscard]] const molt::servers::server_type* find_type(std::string_view name) const noexcept override {
    return name == type_->name() ? type_.get() : nullptr;
  }

 private:
  std::shared_ptr<const molt::servers::server_type> type_ =
      molt::servers::server_type::make(molt::detail::server_type_constant<"fuzz", fuzzed::server>, "1.0.0", nullptr);
};

molt::servers::runtime& runtime() {
  static molt::servers::runtime only{[] {
    molt::servers::options given;
    given.pool_threads = 1;
    given.servers_max = 16;  // leaks are looked for in all of their memory
    return given;
  }()};
  return only;
}

std::string_view take_word(std::string_view& from, char end) {
  const auto at = from.find(end);
  const auto word = from.substr(0, at);
  from.remove_prefix(at == std::string_view::npos ? from.size() : at + 1);
  return word;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const molt_ref server_ref = [] {
    runtime().switch_to(std::make_shared<only_release>());
    const auto started = runtime().start("fuzz.server", "s", molt::servers::arguments{});
    MOLT_ASSERT(started.has_value());
    return *started;
  }();
  std::string_view rest{reinterpret_cast<const char*>(data), size};
  std::string_view line = take_word(rest, '\n');
  molt::node::http_request asked;
  asked.method = take_word(line, ' ');
  asked.path = take_word(line, '?');
  while (!line.empty()) {
    std::string_view pair = take_word(line, '&');
    const auto key = take_word(pair, '=');
    asked.query.emplace_back(key, pair);
  }
  asked.body = rest;
  if (!molt::node::is_about_servers(asked.path)) return 0;
  const auto answered = molt::node::answer_about_servers(runtime(), asked);
  if (answered) {
    boost::json::error_code bad;
    const auto parsed = boost::json::parse(answered->body, bad);
    MOLT_ASSERT(!bad && parsed.is_object(), answered->body);
  } else {
    MOLT_ASSERT(!answered.error().message().empty());
  }
  static_cast<void>(runtime().resume(server_ref));
  fuzzed::read_small message;
  std::uint8_t small = 255;
  MOLT_ASSERT(runtime().call(server_ref, molt::message_of<fuzzed::read_small>(), &message, &small) == MOLT_OK);
  MOLT_ASSERT(small <= 100, static_cast<int>(small));
  return 0;
}
