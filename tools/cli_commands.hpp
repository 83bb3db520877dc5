// The commands of `molt`: each prints and returns its exit code. tools/molt.cpp makes them from the command line.
#pragma once

#include "tools/cli_terminal.hpp"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace molt::cli {

using key_values = std::vector<std::string>;  ///< each "key=value"

// -- Local: no daemon is asked (cli_files.cpp)
int inspect(const settings&, const std::string& file);
int diff(const settings&, const std::string& older, const std::string& newer);
int pack(const settings&, const std::string& folder, const std::string& output);

// -- Release handling, by moltd (cli_releases.cpp)
int install(const settings&, const std::string& path);
int releases(const settings&);
int remove(const settings&, const std::string& release);

struct plan_request {
  std::string release;  ///< empty with rollback
  bool rollback = false;
  std::vector<std::string> accept_loss;
};
int plan(const settings&, const plan_request&);

struct change_request {
  std::string release;  ///< upgrade only
  std::string mode;     ///< upgrade only: empty, "lazy" or "atomic"
  std::vector<std::string> accept_loss;
  key_values arguments;  ///< given to hooks
  std::chrono::seconds timeout{3600};
};
int upgrade(const settings&, const change_request&);
int rollback(const settings&, const change_request&);
int commit(const settings&);

// -- The running node, by moltd (cli_node.cpp)
int status(const settings&);

struct servers_request {
  std::string type;
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

}  // namespace molt::cli
