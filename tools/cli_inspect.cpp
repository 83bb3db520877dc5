// inspect: what files say about themselves, as text, JSON or SARIF. Files are looked at in a confined process; none of
// their code runs.
#include "base/utf8.hpp"
#include "loader/finding_rules.hpp"
#include "loader/foreign_file.hpp"
#include "loader/plugin_report.hpp"
#include "node/api_error.hpp"
#include "releases/inspection_policy.hpp"
#include "releases/manifest.hpp"
#include "tools/cli_client.hpp"
#include "tools/cli_commands.hpp"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <optional>

namespace molt::cli {

namespace json = boost::json;
using loader::severity;

namespace {

/// One file, looked at.
struct inspected_file {
  std::string path;   ///< as given
  std::string shown;  ///< the same, printable
  std::optional<error> failed;
  loader::inspection seen;
  std::vector<const std::string*> allowed;  ///< beside each finding: the policy's reason, or null
  bool passed = false;
};

severity level_of(const std::string& fail_on) {
  return fail_on == "note" ? severity::note : fail_on == "warn" ? severity::warn : severity::refuse;
}

inspected_file look(const std::string& path, severity fail_on, releases::inspection_policy& policy) {
  inspected_file file;
  file.path = path;
  file.shown = printable(path);
  auto seen = loader::inspect_foreign(path);
  if (!seen) {
    file.failed = seen.error();
    return file;
  }
  file.seen = std::move(*seen);
  file.passed = true;
  for (const auto& one : file.seen.findings) {
    file.allowed.push_back(policy.allows(path, one));
    if (file.allowed.back() == nullptr && one.level >= fail_on) file.passed = false;
  }
  return file;
}

/// Without what the policy allows.
loader::inspection without_allowed(const inspected_file& file) {
  loader::inspection rest = file.seen;
  rest.findings.clear();
  for (std::size_t i = 0; i < file.seen.findings.size(); ++i)
    if (file.allowed[i] == nullptr) rest.findings.push_back(file.seen.findings[i]);
  return rest;
}

/// "refused" for what a node refuses; otherwise what the level asked for makes of it.
error why_not_passed(const inspected_file& file, severity fail_on) {
  if (auto refused = loader::require_replaceable(file.seen); !refused) return std::move(refused).error();
  std::string text;
  std::string hint;
  std::size_t told = 0;
  for (std::size_t i = 0; i < file.seen.findings.size(); ++i) {
    const auto& one = file.seen.findings[i];
    if (file.allowed[i] != nullptr || one.level < fail_on) continue;
    if (told == 0) hint = one.hint;
    if (told < loader::findings_told_max)
      text += (told == 0 ? "" : "; ") + one.text + " (" + std::string{to_string(one.kind)} + ")";
    ++told;
  }
  if (told > loader::findings_told_max)
    text += "; and " + std::to_string(told - loader::findings_told_max) + " more, listed above";
  return {reason::refused, file.shown + ": " + text, hint};
}

json::object json_of(const inspected_file& file) {
  if (file.failed)
    return {{"path", file.shown},
            {"passed", false},
            {"error",
             {{"reason", to_string(file.failed->why())},
              {"message", printable(file.failed->message())},
              {"hint", printable(file.failed->hint())}}}};
  json::array findings;
  for (std::size_t i = 0; i < file.seen.findings.size(); ++i) {
    const auto& one = file.seen.findings[i];
    json::object entry{{"code", loader::to_string(one.kind)},
                       {"severity", loader::to_string(one.level)},
                       {"text", one.text},
                       {"hint", one.hint},
                       {"reason", loader::rule_of(one.kind).reason}};
    if (!one.subject.empty()) entry["symbol"] = one.subject;
    if (!one.name.empty()) entry["name"] = one.name;
    if (file.allowed[i] != nullptr) entry["allowed"] = *file.allowed[i];
    findings.push_back(std::move(entry));
  }
  json::array needed;
  for (const auto& library : file.seen.needed) needed.emplace_back(library);
  return {{"path", file.shown},
          {"size", file.seen.size},
          {"machine", file.seen.machine},
          {"build_id", file.seen.build_id},
          {"replaceable", file.seen.replaceable()},
          {"passed", file.passed},
          {"needed", std::move(needed)},
          {"findings", std::move(findings)},
          {"plugin", plugin_json(file.seen.plugin)}};
}

// -- SARIF 2.1.0 (OASIS, 2020-03-27): what code review tools read.

const char* sarif_level(severity level) {
  return level == severity::refuse ? "error" : level == severity::warn ? "warning" : "note";
}

json::object sarif_text(std::string_view text) { return {{"text", text}}; }

json::array sarif_rules() {
  json::array rules;
  for (const auto& rule : loader::finding_rules())
    rules.push_back(json::object{{"id", rule.code},
                                 {"shortDescription", sarif_text(rule.reason)},
                                 {"help", sarif_text(rule.fix)},
                                 {"defaultConfiguration", json::object{{"level", sarif_level(rule.level)}}}});
  return rules;
}

/// A path as the reference of a URI.
std::string uri_of(const std::string& path) {
  std::string uri = path.starts_with('/') ? "file://" : "";
  for (const char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view{"/-._~"}.find(c) != std::string_view::npos;
    char coded[4];
    std::snprintf(coded, sizeof coded, "%%%02X", static_cast<unsigned>(static_cast<unsigned char>(c)));
    uri += plain ? std::string(1, c) : std::string{coded};
  }
  return uri;
}

json::object sarif_result(const inspected_file& file, std::size_t at) {
  const auto& one = file.seen.findings[at];
  json::object place{
      {"physicalLocation", json::object{{"artifactLocation", json::object{{"uri", uri_of(file.path)}}}}}};
  if (!one.subject.empty()) {
    json::object symbol{{"decoratedName", one.subject},
                        {"fullyQualifiedName", one.name.empty() ? one.subject : one.name}};
    place["logicalLocations"] = json::array{std::move(symbol)};
  }
  json::object result{{"ruleId", loader::to_string(one.kind)},
                      {"ruleIndex", static_cast<std::uint64_t>(one.kind)},
                      {"level", sarif_level(one.level)},
                      {"message", sarif_text("It " + one.text + ". Fix: " + one.hint + ".")},
                      {"locations", json::array{std::move(place)}}};
  if (file.allowed[at] != nullptr)
    result["suppressions"] = json::array{json::object{{"kind", "external"}, {"justification", *file.allowed[at]}}};
  return result;
}

json::object sarif_notification(const char* level, const std::string& text) {
  return {{"level", level}, {"message", sarif_text(text)}};
}

json::object sarif_of(const std::vector<inspected_file>& files, const std::vector<std::string>& unused) {
  json::array results;
  json::array notifications;
  bool all_read = true;
  for (const auto& file : files) {
    for (std::size_t i = 0; i < file.seen.findings.size(); ++i) results.push_back(sarif_result(file, i));
    if (!file.failed) continue;
    all_read = false;
    notifications.push_back(sarif_notification("error", printable(file.failed->message())));
  }
  for (const auto& text : unused) notifications.push_back(sarif_notification("warning", text));
  json::object driver{{"name", "molt"}, {"version", MOLT_VERSION}, {"rules", sarif_rules()}};
  json::object run{{"tool", json::object{{"driver", std::move(driver)}}},
                   {"invocations", json::array{json::object{{"executionSuccessful", all_read},
                                                            {"toolExecutionNotifications", std::move(notifications)}}}},
                   {"columnKind", "unicodeCodePoints"},
                   {"results", std::move(results)}};
  return {{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
          {"version", "2.1.0"},
          {"runs", json::array{std::move(run)}}};
}

void print_text(const inspected_file& file) {
  std::fputs(loader::describe(without_allowed(file)).c_str(), stdout);
  for (std::size_t i = 0; i < file.allowed.size(); ++i)
    if (file.allowed[i] != nullptr)
      std::printf("allowed: %s (%s): %s\n", file.seen.findings[i].text.c_str(),
                  std::string{to_string(file.seen.findings[i].kind)}.c_str(), printable(*file.allowed[i]).c_str());
}

void print_all(const settings& with, const inspect_request& request, const std::vector<inspected_file>& files,
               const std::vector<std::string>& unused) {
  if (request.quiet) return;
  if (request.sarif) return print_json(sarif_of(files, unused));
  if (with.json && files.size() == 1 && !files.front().failed) return print_json(json_of(files.front()));
  if (with.json && files.size() > 1) {
    json::array all;
    for (const auto& file : files) all.push_back(json_of(file));
    return print_json(std::move(all));
  }
  if (with.json) return;
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (files[i].failed) continue;
    if (i > 0) std::fputc('\n', stdout);
    print_text(files[i]);
  }
}

}  // namespace

// Exit 1 says that a node would refuse to load one of the files, or that it has findings as bad as --fail-on says.
int inspect(const settings& asked, const inspect_request& request) {
  settings with = asked;
  if (request.quiet) with.json = false;  // nothing on stdout, errors neither
  releases::inspection_policy policy;
  if (!request.policy.empty()) {
    auto read = releases::inspection_policy::read(request.policy);
    if (!read) {
      report_error(with, read.error(), request.policy, exit_usage);
      return exit_usage;
    }
    policy = std::move(*read);
  }
  const severity fail_on = level_of(request.fail_on);
  std::vector<inspected_file> files;
  for (const auto& path : request.files) files.push_back(look(path, fail_on, policy));
  const auto unused = policy.unused();
  print_all(with, request, files, unused);
  for (const auto& text : unused) std::fprintf(stderr, "molt: %s\n", printable(text).c_str());

  const bool answered = !request.quiet && (request.sarif || (with.json && files.size() > 1));
  int exit_code = exit_done;
  for (const auto& file : files) {
    if (file.passed) continue;
    const error why = file.failed ? *file.failed : why_not_passed(file, fail_on);
    const int code = static_cast<int>(node::exit_code_of(why.why()));
    exit_code = std::max(exit_code, code);
    // With --json the findings are in the answer.
    if (!answered && (file.failed || !with.json)) report_error(with, why, file.path, code);
  }
  return exit_code;
}

result<void> check_policy(const std::string& folder, const std::string& policy_file, const std::string& fail_on) {
  MOLT_TRY(auto policy, releases::inspection_policy::read(policy_file));
  MOLT_TRY(const auto release, releases::read_manifest(folder));
  const severity level = level_of(fail_on);
  for (const auto& plugin : release.plugins) {
    const auto file = look((std::filesystem::path{folder} / plugin.file).string(), level, policy);
    if (file.failed) return *file.failed;
    if (!file.passed) return why_not_passed(file, level);
  }
  for (const auto& text : policy.unused()) std::fprintf(stderr, "molt: %s\n", printable(text).c_str());
  return ok();
}

}  // namespace molt::cli
