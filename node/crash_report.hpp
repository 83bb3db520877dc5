// A crash report: what one failed server, or one died molt-node, leaves for a person to read.
//
// It is a JSON object; docs/reference/crash-reports.md names its members. The text is made from it, so whoever has the
// one has the other, and a report of a newer molt is shown as far as its members are known.
#pragma once

#include "base/result.hpp"
#include "node/crash_raw.hpp"
#include "server/failure.hpp"

#include <boost/json/object.hpp>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace molt::node {

inline constexpr std::size_t crash_state_size_max = 64 * 1024;  ///< of a state's archive and of its JSON
inline constexpr std::size_t crash_symbol_size_max = 512;

/// What is kept of a server's failure until the report is made, for which nobody should wait.
struct failed_server {
  servers::server_failure told;  ///< without what was valid only then: type, why, state
  std::string why;
  std::shared_ptr<const servers::server_type> type;  ///< keeps the image mapped
  std::string state;                                 ///< JSON; empty: there is none to show
  std::string state_note;                            ///< why there is none
  std::chrono::system_clock::time_point when;

  /// With what format_status shows of the state; a type without one may have secrets there, so nothing is shown. While
  /// the server is held.
  static failed_server of(const servers::server_failure&);
};

/// `folders`: where the images' files are looked for.
[[nodiscard]] boost::json::object report_of(const failed_server&, const std::string& release,
                                            const std::vector<std::filesystem::path>& folders);
[[nodiscard]] boost::json::object report_of(const crash_raw&, const std::vector<std::filesystem::path>& folders);

/// For people; ends with a newline.
[[nodiscard]] std::string text_of_report(const boost::json::object&);
/// What lists show: id, time, kind, what, and server, type, version, message as far as they are known.
[[nodiscard]] boost::json::object summary_of_report(const boost::json::object&);

}  // namespace molt::node
