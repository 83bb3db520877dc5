// crashes: reports of failed servers and died nodes, from moltd or from the folder itself.
#include "node/api_error.hpp"
#include "node/crash_folder.hpp"
#include "node/crash_report.hpp"
#include "tools/cli_client.hpp"
#include "tools/cli_commands.hpp"

#include <boost/json/array.hpp>

#include <cstdio>
#include <filesystem>
#include <utility>

namespace molt::cli {

namespace json = boost::json;

namespace {

answer failed(const settings& with, const error& why) {
  const int code = static_cast<int>(node::exit_code_of(why.why()));
  report_error(with, why, {}, code);
  return {code, nullptr};
}

/// The same answer that moltd would give.
answer read_folder(const settings& with, const crashes_request& request) {
  std::error_code unknown;
  if (!std::filesystem::is_directory(request.folder, unknown))
    return failed(with, error{reason::not_found, "there is no folder " + request.folder,
                              "moltd keeps reports in crashes/ of its store, e.g. --dir /var/lib/molt/crashes"});
  const node::crash_folder folder{request.folder};
  const auto beside = std::filesystem::path{request.folder} / "../releases";
  // What cannot be turned into a report here (it may be another user's) stays for moltd.
  (void)folder.take_raw_reports({beside}, [](const error&) {});
  if (request.show) {
    auto report = folder.read(request.id);
    if (!report) return failed(with, report.error());
    return {exit_done, json::value(std::move(*report))};
  }
  auto found = folder.list();
  if (!found) return failed(with, found.error());
  json::array all;
  for (auto& each : *found) all.emplace_back(std::move(each));
  return {exit_done, json::object{{"crashes", std::move(all)}}};
}

std::string shortened(const std::string& text) {
  if (text.size() <= 60) return text;
  std::size_t end = 57;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0U) == 0x80U)
    --end;  // not in the middle of a character
  return text.substr(0, end) + "...";
}

void print_list(const json::value& body) {
  table rows{{"ID", "TIME", "SERVER", "VERSION", "MESSAGE", "WHAT"}};
  for (const auto& each : items_of(body, "crashes")) {
    const auto name = text_of(each, "server");
    const auto type = text_of(each, "type");
    const bool died = text_of(each, "kind") == "signal";
    rows.add({text_of(each, "id"), text_of(each, "time"), name.empty() ? type : name, text_of(each, "version"),
              text_of(each, "message"), (died ? "molt-node: " : "") + shortened(text_of(each, "what"))});
  }
  std::fputs(rows.text().c_str(), stdout);
}

}  // namespace

int crashes(const settings& with, const crashes_request& request) {
  const std::string target = request.show ? "/v1/crashes/" + encoded(request.id) : "/v1/crashes";
  const auto got = request.folder.empty() ? ask(with, "GET", target) : read_folder(with, request);
  if (!got.ok()) return got.exit_code;
  if (with.json) {
    print_json(got.body);
    return exit_done;
  }
  if (request.show) {
    const auto* const report = got.body.if_object();
    std::fputs(report != nullptr ? printable_lines(node::text_of_report(*report)).c_str() : "", stdout);
    return exit_done;
  }
  print_list(got.body);
  const auto& shown = items_of(got.body, "crashes");
  if (!shown.empty()) suggest(with, "molt crashes show " + text_of(shown.front(), "id"));
  return exit_done;
}

}  // namespace molt::cli
