// The commands of `molt`: each prints and returns its exit code. tools/molt.cpp makes them from the command line.
#pragma once

#include "base/result.hpp"
#include "plugin/description.hpp"
#include "tools/cli_terminal.hpp"

#include <boost/json/fwd.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace molt::cli {

using key_values = std::vector<std::string>;  ///< each "key=value"

// -- Local: no daemon is asked (cli_inspect.cpp, cli_files.cpp)
struct inspect_request {
  std::vector<std::string> files;
  bool sarif = false;   ///< on stdout, instead of anything else
  bool quiet = false;   ///< nothing on stdout
  std::string policy;   ///< a file; empty: nothing is allowed
  std::string fail_on;  ///< "warn" or "note": such findings are failures too
};
int inspect(const settings&, const inspect_request&);
/// The plugins of a release's folder against a policy. Errors: refused, naming the findings; those of reading.
[[nodiscard]] result<void> check_policy(const std::string& folder, const std::string& policy_file,
                                        const std::string& fail_on);
[[nodiscard]] boost::json::object plugin_json(const plugin_description&);
int diff(const settings&, const std::string& older, const std::string& newer, bool one_way);
/// Silent but for a person at a terminal if `newer` can replace each of the others; otherwise why it cannot.
int gate(const settings&, const std::string& newer, const std::vector<std::string>& replaced, bool one_way);
/// `replaced`: packages or folders that the release must be able to follow. Of the request: policy and fail_on.
int pack(const settings&, const std::string& folder, const std::string& output,
         const std::vector<std::string>& replaced, const inspect_request&);

// -- Release handling, by moltd (cli_releases.cpp)
int install(const settings&, const std::string& path);
int releases(const settings&);
int remove(const settings&, const std::string& release);

struct plan_request {
  std::string release;  ///< empty with rollback
  bool rollback = false;
  bool from_kept = false;  ///< with rollback
  std::vector<std::string> accept_loss;
};
int plan(const settings&, const plan_request&);

struct change_request {
  std::string release;  ///< upgrade only
  std::string mode;     ///< upgrade only: empty, "lazy" or "atomic"
  std::vector<std::string> accept_loss;
  key_values arguments;                ///< given to hooks
  bool rehearsal = true;               ///< upgrade only: first
  bool keep_states = false;            ///< upgrade only
  bool from_kept = false;              ///< rollback only
  std::string replay;                  ///< in the rehearsal: empty, "off", "report" or "strict"
  std::int64_t switch_timeout_ms = 0;  ///< 0: the manifest's
  std::chrono::seconds timeout{3600};
};
int upgrade(const settings&, const change_request&);
int rehearse(const settings&, const change_request&);  // cli_rehearsal.cpp
/// What a rehearsal found, but for its problems.
void print_rehearsal(const boost::json::value&);
int rollback(const settings&, const change_request&);
int commit(const settings&);

// -- The running node, by moltd (cli_node.cpp)
int status(const settings&);
int images(const settings&);

struct servers_request {
  std::string server;  ///< only this one, and all about it
  std::string type;
  std::string order;  ///< empty: as they come
  bool memory = false;
  unsigned limit = 100;
};
int servers(const settings&, const servers_request&);

struct crashes_request {
  bool show = false;
  std::string id;      ///< to show
  std::string folder;  ///< read it rather than ask moltd
};
int crashes(const settings&, const crashes_request&);  // cli_crashes.cpp

struct call_request {
  std::string server;
  std::string message;
  std::vector<std::string> payload;  ///< nothing, one JSON object, "-" for stdin, or key=value each
  std::chrono::milliseconds timeout{5000};
};
int call(const settings&, const call_request&);

// -- One server of it (cli_state.cpp, cli_trace.cpp)
/// Of the control API.
[[nodiscard]] std::string path_of(const std::string& server, std::string_view verb);

struct state_request {
  std::string server;
  std::string state;   ///< JSON, "@file", or "-" for stdin
  bool whole = false;  ///< it holds what format_status hides
};
int get_state(const settings&, const std::string& server);
int set_state(const settings&, const state_request&);
int suspend(const settings&, const std::string& server);
int resume(const settings&, const std::string& server);

struct trace_request {
  std::string server;
  std::chrono::milliseconds lasts{0};
};
int trace(const settings&, const trace_request&);

struct record_request {
  std::string server;
  std::int64_t messages = -1;  ///< to be kept; -1: show those that are
  std::int64_t payload_bytes = 0;
};
int record(const settings&, const record_request&);

// -- All of them, live (cli_top.cpp)
struct top_request {
  std::chrono::milliseconds interval{1000};
  unsigned count = 0;  ///< tables; 0: until told to end, or one where stdout is no terminal
};
int top(const settings&, const top_request&);

}  // namespace molt::cli
