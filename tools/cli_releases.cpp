// install, releases, remove, plan, upgrade, rollback, commit: moltd's release handler, shown.
#include "tools/cli_client.hpp"
#include "tools/cli_commands.hpp"

#include <boost/json/array.hpp>

#include <cmath>
#include <cstdio>
#include <filesystem>

namespace molt::cli {

namespace json = boost::json;

namespace {

json::array strings(const std::vector<std::string>& from) {
  json::array out;
  for (const auto& text : from) out.emplace_back(text);
  return out;
}

std::string joined(const json::array& texts, std::string_view between) {
  std::string out;
  for (const auto& text : texts) {
    if (!out.empty()) out += between;
    out += text_of(text);
  }
  return out;
}

std::string count_text(double count) { return std::to_string(std::llround(count)); }

/// "lists: lists are deleted; ..." for a loss given as text or as {"name","text"}.
std::string loss_text(const json::value& loss) {
  if (loss.is_string()) return text_of(loss);
  const std::string text = text_of(loss, "text");
  return text.empty() ? text_of(loss, "name") : text_of(loss, "name") + ": " + text;
}

void print_types(const json::value& body) {
  const auto& types = items_of(body, "types");
  if (types.empty()) return;
  table rows{{"TYPE", "WAY", "SERVERS", "STEPS"}};
  for (const auto& type : types) {
    const std::string change = text_of(type, "change");
    std::string way = text_of(type, "way");
    if (change == "added" || change == "removed") way = change;
    rows.add({text_of(type, "type"), way, member_of(type, "servers").is_null() ? "-" : text_of(type, "servers"),
              joined(items_of(type, "steps"), ", then ")});
  }
  std::fputs(rows.text().c_str(), stdout);
  for (const auto& type : types)
    for (const auto& line : items_of(type, "changes"))
      if (line.is_string()) std::printf("%s %s\n", paint(colour::dim, "change").c_str(), text_of(line).c_str());
  for (const auto& type : types)
    for (const auto& loss : items_of(type, "losses"))
      std::printf("%s %s\n", paint(colour::yellow, "loses").c_str(), loss_text(loss).c_str());
}

/// "2 hooks, v1::add to v2::add (hook of 3.0.0), then ...".
std::string hooks_text(const json::array& steps) {
  return std::to_string(steps.size()) + (steps.size() == 1 ? " hook, " : " hooks, ") + joined(steps, ", then ");
}

/// The messages that change, with what converts them and their replies; `label` says which way.
void print_messages(const json::array& types, const char* label) {
  for (const auto& type : types)
    for (const auto& message : items_of(type, "messages")) {
      const auto& steps = items_of(message, "steps");
      const auto& reply_steps = items_of(message, "reply_steps");
      std::string text = steps.empty() ? std::string{} : hooks_text(steps);
      if (!reply_steps.empty()) text += (text.empty() ? "its reply: " : "; its reply: ") + hooks_text(reply_steps);
      if (!text.empty())
        std::printf("%s %s.%s: %s\n", label, text_of(type, "type").c_str(), text_of(message, "name").c_str(),
                    text.c_str());
    }
}

void print_lines(const json::array& lines, const char* label, colour how) {
  for (const auto& line : lines) std::printf("%s %s\n", paint(how, label).c_str(), text_of(line).c_str());
}

int exit_code_of_result(std::string_view outcome) {
  if (outcome == "done") return exit_done;
  if (outcome == "refused") return exit_refused;
  if (outcome == "rolled_back") return exit_failed;
  return exit_needs_attention;
}

/// The command that plans this change.
std::string plan_of(const change_request& request, const std::string& to, bool going_back) {
  if (!going_back) return "molt plan " + to;
  return request.from_kept ? "molt plan --rollback --from-kept" : "molt plan --rollback";
}

/// What leads on from a release that cannot go back by its hooks. While it is in probation no upgrade is begun.
std::string after_failed_rollback(const settings& with, const std::string& from, const change_request& request) {
  const auto now = ask(with, "GET", "/v1/status");
  const bool kept = now.ok() && !request.from_kept && member_of(now.body, "kept").is_object();
  const bool probation = !now.ok() || flag_of(member_of(now.body, "release"), "probation");
  return std::string{kept ? "molt rollback --from-kept goes back all the same, or " : ""} +
         "correct the hook in a version after " + from + " and install it, then " +
         (probation ? "molt commit and " : "") + "molt upgrade";
}

void suggest_after_change(const settings& with, const json::value& body, const change_request& request, bool going_back,
                          int exit_code) {
  const std::string from = text_of(body, "from");
  const std::string to = text_of(body, "to");
  const bool begins_probation = !going_back && !from.empty() && from != to;  // a start without a node does not
  if (exit_code == exit_done && begins_probation)
    suggest(with, "molt commit keeps " + to + "; molt rollback goes back to " + from);
  else if (exit_code == exit_done && flag_of(body, "cancelled"))
    suggest(with, "the upgrade was still under way and has gone back; " + to + " serves");
  else if (exit_code == exit_done)
    suggest(with, "molt status");
  else if (exit_code == exit_refused && flag_of(body, "cancelled"))
    suggest(with, "nothing was begun; " + from + " serves as before");
  else if (exit_code == exit_refused)
    suggest(with, member_of(body, "rehearsal").is_object()
                      ? "nothing was changed; correct what failed, or go without: molt upgrade --no-rehearsal " + to
                      : "nothing was changed; " + plan_of(request, to, going_back) + " shows every problem");
  else if (exit_code == exit_failed && flag_of(body, "cancelled"))
    suggest(with, from + " serves as before");
  else if (exit_code == exit_failed)
    suggest(with, from + " serves as before; " +
                      (going_back ? after_failed_rollback(with, from, request)
                                  : "correct the hook, pack and install a new version"));
  else
    suggest(with, "molt status says what is left to decide");
}

/// The outcome of an upgrade or a rollback, and what to do next.
int report_change(const settings& with, const json::value& body, const change_request& request, bool going_back) {
  const std::string outcome = text_of(body, "result");
  const std::string from = text_of(body, "from");
  const std::string to = text_of(body, "to");
  const int exit_code = exit_code_of_result(outcome);
  if (with.json) {
    print_json(body);
    return exit_code;
  }
  const std::string migrated = count_text(number_of(body, "servers_migrated"));
  std::string summary = from + " -> " + to + " in " + duration_text(number_of(body, "total_ms")) + ", " + migrated +
                        (migrated == "1" ? " server" : " servers") + " migrated (" + text_of(body, "way") + ")";
  if (const auto longest = number_of(body, "largest_migration_ms"); longest > 0.0)
    summary += ", at most " + duration_text(longest) + " each";
  if (const auto& rehearsal = member_of(body, "rehearsal"); rehearsal.is_object()) print_rehearsal(rehearsal);
  const colour how = exit_code == exit_done ? colour::green : colour::red;
  std::printf("%s  %s\n", paint(how, outcome).c_str(), summary.c_str());
  print_types(body);
  for (const auto& each : items_of(body, "restored"))
    std::printf("%s %s is what it was at %s, %s s lost: %s: %s\n", paint(colour::yellow, "restored:").c_str(),
                text_of(each, "server").c_str(), text_of(each, "since").c_str(), text_of(each, "lost_s").c_str(),
                text_of(each, "hook").c_str(), text_of(each, "error").c_str());
  for (const auto& failure : items_of(body, "failures"))
    std::fprintf(stderr, "failed: %s: %s: %s\n", text_of(failure, "server").c_str(), text_of(failure, "hook").c_str(),
                 text_of(failure, "error").c_str());
  for (const auto& problem : items_of(body, "problems"))
    std::fprintf(stderr, "problem: %s\n", text_of(problem).c_str());
  suggest_after_change(with, body, request, going_back, exit_code);
  return exit_code;
}

int change(const settings& with, std::string_view target, json::object body, const change_request& request,
           const std::string& what, bool going_back) {
  const auto arguments = parse_key_values(with, request.arguments);
  if (!arguments) return exit_usage;
  body["arguments"] = *arguments;
  if (request.keep_states) body["keep_states"] = true;
  if (!request.replay.empty()) body["replay"] = request.replay;
  if (request.from_kept) body["from_kept"] = true;
  if (request.switch_timeout_ms != 0) body["switch_timeout_ms"] = request.switch_timeout_ms;
  answer done;
  {
    const goes_on_after_interrupt interrupt{"\nmoltd carries this on; molt status shows how far it is\n"};
    const progress shown{what};
    done = ask(with, "POST", target, body, request.timeout);
  }
  return done.ok() ? report_change(with, done.body, request, going_back) : done.exit_code;
}

}  // namespace

int install(const settings& with, const std::string& path) {
  std::error_code bad;
  const auto absolute = std::filesystem::absolute(path, bad);
  if (bad || !std::filesystem::exists(absolute, bad)) {
    report_error(with,
                 error{reason::not_found, path + ": no such file or folder", "molt pack DIR -o FILE.molt makes one"},
                 {}, exit_refused);
    return exit_refused;
  }
  answer done;
  {
    const progress shown{"installing " + path};
    done = ask(with, "POST", "/v1/releases", {{"path", absolute.string()}}, std::chrono::minutes{10});
  }
  if (!done.ok()) return done.exit_code;
  if (with.json) {
    print_json(done.body);
    return exit_done;
  }
  const std::string id = text_of(done.body, "id");
  std::printf("%s\n", id.c_str());
  if (flag_of(done.body, "repaired"))
    suggest(with, "it was installed, and its damaged files are replaced; if no node runs: molt upgrade " + id);
  else
    suggest(with, "molt plan " + id);
  return exit_done;
}

int releases(const settings& with) {
  const auto got = ask(with, "GET", "/v1/releases");
  if (!got.ok()) return got.exit_code;
  if (with.json) {
    print_json(got.body);
    return exit_done;
  }
  table rows{{"RELEASE", "STATUS", "PARENT", "INSTALLED"}};
  for (const auto& release : items_of(got.body, "releases")) {
    const std::string status = text_of(release, "status");
    const colour how = status == "current" ? colour::yellow : status == "permanent" ? colour::green : colour::none;
    rows.add(
        {text_of(release, "id"), paint(how, status), text_of(release, "parent"), text_of(release, "installed_at")});
  }
  std::fputs(rows.text().c_str(), stdout);
  if (items_of(got.body, "releases").empty()) suggest(with, "molt install FILE.molt");
  return exit_done;
}

int remove(const settings& with, const std::string& release) {
  const auto done = ask(with, "DELETE", "/v1/releases/" + encoded(release));
  if (!done.ok()) return done.exit_code;
  if (with.json)
    print_json(done.body);
  else
    std::printf("removed %s\n", release.c_str());
  return exit_done;
}

int plan(const settings& with, const plan_request& request) {
  json::object body{{"accept_loss", strings(request.accept_loss)}};
  if (request.from_kept) body["from_kept"] = true;
  if (request.rollback)
    body["rollback"] = true;
  else
    body["release"] = request.release;
  answer got;
  {
    const progress shown{"planning"};
    got = ask(with, "POST", "/v1/plan", body, std::chrono::minutes{2});
  }
  if (!got.ok()) return got.exit_code;
  const auto& problems = items_of(got.body, "problems");
  const int exit_code = problems.empty() ? exit_done : exit_refused;
  if (with.json) {
    print_json(got.body);
    return exit_code;
  }
  const std::string from = text_of(got.body, "from");
  const std::string to = text_of(got.body, "to");
  if (!from.empty() || !to.empty()) std::printf("%s -> %s\n", from.c_str(), to.c_str());
  print_types(got.body);
  print_messages(items_of(got.body, "types"), "message");
  print_messages(items_of(got.body, "back"), "and back");
  for (const auto& type : items_of(got.body, "back"))
    for (const auto& loss : items_of(type, "losses"))
      std::printf("%s loses %s\n", paint(colour::yellow, "rolling back").c_str(), loss_text(loss).c_str());
  if (flag_of(got.body, "one_way")) std::printf("%s there is no way back\n", paint(colour::yellow, "one way:").c_str());
  print_lines(items_of(got.body, "notes"), "note:", colour::dim);
  print_lines(problems, "problem:", colour::red);
  if (!problems.empty())
    suggest(with,
            std::string{request.rollback ? "a rollback" : "an upgrade"} + " would be refused, with nothing changed");
  else if (request.rollback)
    suggest(with, request.from_kept ? "molt rollback --from-kept" : "molt rollback");
  else
    suggest(with, "molt upgrade " + (to.empty() ? request.release : to));
  return exit_code;
}

int upgrade(const settings& with, const change_request& request) {
  json::object body{{"release", request.release}};
  if (!request.mode.empty()) body["mode"] = request.mode;
  if (!request.rehearsal) body["rehearsal"] = false;
  if (!request.accept_loss.empty()) body["accept_loss"] = strings(request.accept_loss);
  return change(with, "/v1/upgrade", std::move(body), request, "upgrading to " + request.release, false);
}

int rollback(const settings& with, const change_request& request) {
  return change(with, "/v1/rollback", {{"accept_loss", strings(request.accept_loss)}}, request, "rolling back", true);
}

int commit(const settings& with) {
  answer done;
  {
    const progress shown{"committing"};
    done = ask(with, "POST", "/v1/commit", {}, std::chrono::minutes{2});
  }
  if (!done.ok()) return done.exit_code;
  if (with.json) {
    print_json(done.body);
    return exit_done;
  }
  std::printf("%s is permanent\n", text_of(done.body, "release").c_str());
  suggest(with, "molt releases");
  return exit_done;
}

}  // namespace molt::cli
