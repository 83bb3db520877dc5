// Asks moltd over its control socket and turns what comes back into JSON or an error with an exit code.
#pragma once

#include "tools/cli_terminal.hpp"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace molt::cli {

/// What moltd answered: a body, or an error that has been reported already and the exit code that stands for it.
struct answer {
  int exit_code = exit_done;
  boost::json::value body;

  [[nodiscard]] bool ok() const noexcept { return exit_code == exit_done; }
};

inline constexpr std::chrono::milliseconds short_timeout{30'000};

/// One request. Reports every error.
[[nodiscard]] answer ask(const settings&, std::string_view method, std::string_view target,
                         const boost::json::object& body = {}, std::chrono::milliseconds timeout = short_timeout);

/// Percent-encoding for a path or a query's value.
[[nodiscard]] std::string encoded(std::string_view);

// Reading answers leniently: a newer moltd may leave out or add members. Texts are made printable.
[[nodiscard]] std::string text_of(const boost::json::value&);                        ///< "" if it is no string
[[nodiscard]] std::string text_of(const boost::json::value&, std::string_view key);  ///< "" if absent or null
[[nodiscard]] double number_of(const boost::json::value&, std::string_view key);     ///< 0 if absent
[[nodiscard]] bool flag_of(const boost::json::value&, std::string_view key);         ///< false if absent
[[nodiscard]] const boost::json::value& member_of(const boost::json::value&, std::string_view key);  ///< null if absent
[[nodiscard]] const boost::json::array& items_of(const boost::json::value&, std::string_view key);  ///< empty if absent

/// Prints a JSON answer as it is.
void print_json(const boost::json::value&);

/// {"a": "1"} from "a=1". Reports a malformed one and returns nothing.
[[nodiscard]] std::optional<boost::json::object> parse_key_values(const settings&, const std::vector<std::string>&);

}  // namespace molt::cli
