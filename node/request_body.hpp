// The body of a request to the control API.
#pragma once

#include "node/http_server.hpp"
#include "node/json_codec.hpp"
#include "server/runtime.hpp"

#include <boost/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace molt::node {

/// A request's JSON object, whose members are taken one by one; what is left over is refused.
class request_body {
 public:
  static result<request_body> of(const http_request& asked) {
    request_body made;
    if (asked.body.empty()) return made;
    MOLT_TRY(boost::json::value value, parse_json(asked.body));
    if (!value.is_object()) return error{reason::invalid_argument, "the body is no JSON object"};
    made.object_ = std::move(value.get_object());
    return made;
  }

  [[nodiscard]] bool has(std::string_view key) const { return object_.contains(key); }

  [[nodiscard]] std::optional<boost::json::value> take(std::string_view key) {
    const auto found = object_.find(key);
    if (found == object_.end()) return std::nullopt;
    std::optional<boost::json::value> value{std::move(found->value())};
    object_.erase(found);
    return value;
  }

  result<std::string> text(std::string_view key) {
    const auto value = take(key);
    if (!value) return std::string{};
    if (!value->is_string()) return wrong(key, "a string");
    return std::string{std::string_view{value->get_string()}};
  }

  result<bool> flag(std::string_view key) {
    const auto value = take(key);
    if (!value) return false;
    if (!value->is_bool()) return wrong(key, "true or false");
    return value->get_bool();
  }

  result<std::int64_t> number(std::string_view key, std::int64_t low, std::int64_t high) {
    const auto value = take(key);
    if (!value) return std::int64_t{0};
    if (!value->is_int64() || value->get_int64() < low || value->get_int64() > high)
      return wrong(key, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
    return value->get_int64();
  }

  result<std::vector<std::string>> texts(std::string_view key) {
    std::vector<std::string> all;
    const auto value = take(key);
    if (!value) return all;
    const auto* list = value->if_array();
    if (list == nullptr) return wrong(key, "an array of strings");
    for (const auto& each : *list) {
      if (!each.is_string()) return wrong(key, "an array of strings");
      all.emplace_back(std::string_view{each.get_string()});
    }
    return all;
  }

  result<servers::arguments> arguments(std::string_view key) {
    servers::arguments all;
    const auto value = take(key);
    if (!value) return all;
    const auto* table = value->if_object();
    if (table == nullptr) return wrong(key, "an object of strings");
    for (const auto& field : *table) {
      if (!field.value().is_string()) return wrong(key, "an object of strings");
      all.emplace_back(std::string{std::string_view{field.key()}},
                       std::string{std::string_view{field.value().get_string()}});
    }
    return all;
  }

  result<void> nothing_else() const {
    if (object_.empty()) return ok();
    return error{reason::invalid_argument,
                 "unknown member \"" + std::string{std::string_view{object_.begin()->key()}} + "\""};
  }

 private:
  [[nodiscard]] static error wrong(std::string_view key, std::string_view expected) {
    return {reason::invalid_argument, std::string{key} + ": expected " + std::string{expected}};
  }
  boost::json::object object_;
};

}  // namespace molt::node
