// The command line: what it accepts, its help, and which command it calls.
#include "base/standard_files.hpp"
#include "tools/cli_commands.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace {

using molt::cli::settings;

constexpr const char* exit_codes =
    "Exit codes: 0 done; 1 refused, nothing changed; 2 usage; 3 failed, everything is as before;\n"
    "            4 node not reachable; 5 needs attention.\n";

/// Help that begins with examples.
class examples_first : public CLI::Formatter {
 public:
  void add(const std::string& command, std::string examples) { examples_[command] = std::move(examples); }

  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    std::string out;
    if (const auto found = examples_.find(app->get_name()); found != examples_.end())
      out += "Examples:\n" + found->second + "\n";
    return out + CLI::Formatter::make_help(app, std::move(name), mode);
  }

 private:
  std::map<std::string, std::string> examples_;
};

/// The command line under construction; the chosen command is in `chosen` after parsing.
class command_line {
 public:
  command_line() : help_{std::make_shared<examples_first>()} {
    if (const char* named = std::getenv("MOLT_SOCKET"); named != nullptr && *named != '\0') with_.socket = named;
    app_.name("molt");
    help_->add("molt",
               "  molt pack release-2 -o counter-2.0.0.molt && molt install counter-2.0.0.molt\n"
               "  molt plan counter-2.0.0\n"
               "  molt upgrade counter-2.0.0 && molt commit\n");
    help_->column_width(34);
    app_.formatter(help_);
    app_.require_subcommand(1);
    app_.set_version_flag("--version", "molt " MOLT_VERSION);
    app_.set_help_flag("-h,--help", "Show this help");
    app_.footer(std::string{"molt COMMAND --help shows a command's examples and options.\n\n"} + exit_codes);
    add_common(app_, true);
    add_files();
    add_release_store();
    add_upgrade();
    add_node();
    add_one_server();
    add_top();
  }

  /// Whether the chosen command does more than show something.
  [[nodiscard]] bool changes() const {
    constexpr std::array<std::string_view, 9> doing{"pack",   "install", "remove",  "upgrade", "rollback",
                                                    "commit", "call",    "suspend", "resume"};
    const auto chosen = app_.get_subcommands();
    if (!chosen.empty() && chosen.front()->get_name() == "record") return record_.messages >= 0;
    if (!chosen.empty() && chosen.front()->get_name() == "state") return chosen.front()->got_subcommand("set");
    return !chosen.empty() && std::find(doing.begin(), doing.end(), chosen.front()->get_name()) != doing.end();
  }

  int run(int count, char** words) {
    try {
      app_.parse(count, words);
    } catch (const CLI::ParseError& stopped) {
      if (stopped.get_exit_code() == 0) return app_.exit(stopped);  // --help, --version
      return wrong_usage(stopped,
                         std::any_of(words, words + count, [](std::string_view word) { return word == "--json"; }));
    }
    return chosen_();
  }

 private:
  int wrong_usage(const CLI::Error& wrong, bool as_json) {
    const auto parsed = app_.get_subcommands();
    const auto unknown = app_.remaining();
    const std::string text =
        parsed.empty() && !unknown.empty() ? "there is no command or option " + unknown.front() : wrong.what();
    const std::string command = parsed.empty() ? "molt" : "molt " + parsed.front()->get_name();
    with_.json = as_json;
    molt::cli::report_error(with_, molt::error{molt::reason::invalid_argument, text, command + " --help"}, {},
                            molt::cli::exit_usage);
    return molt::cli::exit_usage;
  }

  /// `asks`: whether the command talks to moltd.
  void add_common(CLI::App& to, bool asks) {
    to.add_flag("--json", with_.json, "Data as JSON on stdout");
    if (asks)
      to.add_option("--socket", with_.socket, "moltd's control socket; also $MOLT_SOCKET")
          ->type_name("PATH")
          ->capture_default_str();
  }

  CLI::App& add(const std::string& name, const std::string& what, bool asks, std::string examples) {
    return add(app_, name, what, asks, std::move(examples));
  }

  CLI::App& add(CLI::App& to, const std::string& name, const std::string& what, bool asks, std::string examples) {
    CLI::App* command = to.add_subcommand(name, what);
    help_->add(name, std::move(examples));
    add_common(*command, asks);
    command->footer(exit_codes);
    return *command;
  }

  void add_files() {
    auto& inspect = add("inspect", "What plugin files say about themselves, without running their code", false,
                        "  molt inspect libcounter-1.0.0.so\n"
                        "  molt inspect --json libcounter-1.0.0.so | jq .plugin.version\n"
                        "  molt inspect --sarif --fail-on warn --policy inspect.toml build/*.so >molt.sarif\n");
    inspect.add_option("FILE", inspect_.files, "Plugins (.so)")->required();
    inspect.add_flag("--sarif", inspect_.sarif, "The findings as SARIF 2.1.0, for code review tools, on stdout");
    inspect.add_flag("--quiet", inspect_.quiet, "Nothing on stdout");
    add_policy(inspect);
    inspect.footer(
        "Exit codes: 0 nothing as bad as --fail-on says, or all of it allowed; 1 a node would refuse a\n"
        "            file, or such findings; 2 usage, or the policy is wrong; 3 a file or its findings\n"
        "            could not be read. Of several files: the highest.\n");
    inspect.callback([this] { chosen_ = [this] { return molt::cli::inspect(with_, inspect_); }; });

    auto& diff = add("diff", "What changed between two versions of a plugin, and whether hooks cover it", false,
                     "  molt diff libcounter-1.0.0.so libcounter-2.0.0.so\n");
    diff.add_option("OLD", first_, "The older plugin (.so)")->required();
    diff.add_option("NEW", second_, "The newer plugin (.so)")->required();
    diff.add_flag("--one-way", one_way_, "The release will say one_way: hooks going down are not asked for");
    diff.callback([this] { chosen_ = [this] { return molt::cli::diff(with_, first_, second_, one_way_); }; });

    auto& gate = add("gate", "Whether a plugin can replace older versions of itself while they run", false,
                     "  molt gate libcounter-2.0.0.so libcounter-1.0.0.so libcounter-1.1.0.so\n");
    gate.add_option("NEW", first_, "The newer plugin (.so)")->required();
    gate.add_option("OLD", several_, "The plugins that may still run (.so)")->required();
    gate.add_flag("--one-way", one_way_, "The release will say one_way: hooks going down are not asked for");
    gate.callback([this] { chosen_ = [this] { return molt::cli::gate(with_, first_, several_, one_way_); }; });

    auto& pack = add("pack", "Make a package of a folder with release.toml and its plugins", false,
                     "  molt pack release-2 -o counter-2.0.0.molt\n"
                     "  molt pack release-2 -o counter-2.0.0.molt --replaces counter-1.0.0.molt\n");
    pack.add_option("DIR", first_, "The release's folder")->required();
    pack.add_option("-o,--output", second_, "The package to write")->required()->type_name("FILE");
    pack.add_option("--replaces", several_,
                    "Packages or folders that may run when this release comes: no package is "
                    "made that could not follow each of them")
        ->type_name("OLD");
    add_policy(pack);
    pack.callback([this] { chosen_ = [this] { return molt::cli::pack(with_, first_, second_, several_, inspect_); }; });
  }

  void add_policy(CLI::App& to) {
    auto* policy = to.add_option("--policy", inspect_.policy, "Findings that are allowed, each with a reason (TOML)")
                       ->type_name("FILE");
    auto* level = to.add_option("--fail-on", inspect_.fail_on, "Which findings fail: refuse, warn or note")
                      ->check(CLI::IsMember({"refuse", "warn", "note"}));
    if (to.get_name() == "pack") level->needs(policy);
  }

  void add_release_store() {
    auto& install = add("install", "Put a package or a release folder into the store; nothing is run", true,
                        "  molt install counter-2.0.0.molt\n");
    install.add_option("FILE", first_, "A package (.molt) or a release's folder")->required();
    install.callback([this] { chosen_ = [this] { return molt::cli::install(with_, first_); }; });

    auto& releases =
        add("releases", "The installed releases: unpacked, current, permanent, old", true, "  molt releases\n");
    releases.callback([this] { chosen_ = [this] { return molt::cli::releases(with_); }; });

    auto& remove =
        add("remove", "Delete an installed release that does not run", true, "  molt remove counter-1.0.0\n");
    remove.add_option("RELEASE", first_, release_help_)->required();
    remove.callback([this] { chosen_ = [this] { return molt::cli::remove(with_, first_); }; });
  }

  void add_upgrade() {
    auto& plan = add("plan", "What an upgrade would do, checked without touching anything", true,
                     "  molt plan counter-2.0.0\n"
                     "  molt plan --rollback --accept-loss lists\n"
                     "  molt plan --rollback --from-kept\n");
    auto* plan_release = plan.add_option("RELEASE", plan_.release, release_help_);
    auto* plan_back = plan.add_flag("--rollback", plan_.rollback, "Plan the way back to the parent release");
    plan_back->excludes(plan_release);
    plan.add_flag("--from-kept", plan_.from_kept, from_kept_help)->needs(plan_back);
    add_losses(plan, plan_.accept_loss);
    plan.callback([this] {
      if (plan_.release.empty() && !plan_.rollback) throw CLI::RequiredError("RELEASE or --rollback");
      chosen_ = [this] { return molt::cli::plan(with_, plan_); };
    });

    auto& upgrade = add("upgrade", "Switch the running node to an installed release; state and connections stay", true,
                        "  molt upgrade counter-2.0.0\n"
                        "  molt upgrade 2.0.0 --mode atomic --argument batch=1000\n");
    upgrade.add_option("RELEASE", change_.release, release_help_)->required();
    add_mode(upgrade);
    add_keep_states(upgrade);
    add_replay(upgrade);
    add_switch_timeout(upgrade);
    add_change(upgrade);
    upgrade.callback([this] { chosen_ = [this] { return molt::cli::upgrade(with_, change_); }; });

    upgrade.add_flag("!--no-rehearsal", change_.rehearsal, "Do not rehearse it in a copy of the node first");

    auto& rehearse = add("rehearse", "Upgrade a copy of the running node, forwards and back; the node runs on", true,
                         "  molt rehearse counter-2.0.0\n"
                         "  molt rehearse counter-2.0.0 --json | jq .pause\n");
    rehearse.add_option("RELEASE", change_.release, release_help_)->required();
    add_mode(rehearse);
    add_keep_states(rehearse);
    add_replay(rehearse);
    add_switch_timeout(rehearse);
    add_losses(rehearse, change_.accept_loss);
    add_arguments(rehearse, change_.arguments);
    rehearse.callback([this] { chosen_ = [this] { return molt::cli::rehearse(with_, change_); }; });

    auto& rollback = add("rollback", "Back to the parent release, keeping what happened since", true,
                         "  molt rollback\n"
                         "  molt rollback --accept-loss lists\n"
                         "  molt rollback --from-kept --accept-loss since=2026-01-31T12:00:00Z\n");
    rollback.add_flag("--from-kept", change_.from_kept, from_kept_help);
    add_switch_timeout(rollback);
    add_change(rollback);
    rollback.callback([this] { chosen_ = [this] { return molt::cli::rollback(with_, change_); }; });

    auto& commit = add("commit", "End probation: the current release becomes permanent", true, "  molt commit\n");
    commit.callback([this] { chosen_ = [this] { return molt::cli::commit(with_); }; });
  }

  void add_node() {
    auto& status = add("status", "The node, its release, its listeners, the last upgrade", true,
                       "  molt status\n  molt status --json | jq .release.current\n");
    status.callback([this] { chosen_ = [this] { return molt::cli::status(with_); }; });

    auto& images = add("images", "The plugins' images: what needs each, and why old ones are still mapped", true,
                       "  molt images\n  molt images --json | jq '.images[] | select(.state != \"current\")'\n");
    images.callback([this] { chosen_ = [this] { return molt::cli::images(with_); }; });

    auto& servers = add("servers", "The running servers", true,
                        "  molt servers --type kv.connection --limit 20\n"
                        "  molt servers --order queued_most --limit 5\n"
                        "  molt servers counter                # all about one\n"
                        "  molt servers --memory               # bytes of each state as an archive\n");
    servers.add_option("SERVER", servers_.server, "Only this one, with the times of its handlers if it was traced");
    servers.add_option("--type", servers_.type, "Only servers of this type")->type_name("TYPE");
    servers.add_option("--limit", servers_.limit, "At most so many")->type_name("N")->capture_default_str();
    servers.add_option("--order", servers_.order, "Those first that have most: handled, queued or queued_most")
        ->check(CLI::IsMember({"handled", "queued", "queued_most"}));
    servers.add_flag("--memory", servers_.memory, "Measure the states; each server waits meanwhile");
    servers.callback([this] { chosen_ = [this] { return molt::cli::servers(with_, servers_); }; });

    add_crashes();

    auto& call = add("call", "Send one message to a server and print the reply", true,
                     "  molt call counter add by=3          # a string member takes its value as it is\n"
                     "  molt call counter add '{\"by\": 3}'\n");
    call.add_option("SERVER", call_.server, "The server's name")->required();
    call.add_option("MESSAGE", call_.message, "The message's name")->required();
    call.add_option("PAYLOAD", call_.payload, "JSON, key=value words, or - for stdin");
    call.add_option("--timeout-ms", timeout_ms_, "How long to wait for the reply")
        ->type_name("MS")
        ->check(CLI::Range(1L, 86'400'000L))
        ->capture_default_str();
    call.callback([this] {
      call_.timeout = std::chrono::milliseconds{timeout_ms_};
      chosen_ = [this] { return molt::cli::call(with_, call_); };
    });
  }

  void add_one_server() {
    auto& state = add("state", "Get or replace the state of a server, as JSON", true,
                      "  molt state get counter > state.json\n"
                      "  molt state set counter @state.json\n");
    state.require_subcommand(1);
    auto& get = add(state, "get", "Print it, without what the server's format_status hides", true,
                    "  molt state get counter\n  molt state get --json counter | jq .state.value\n");
    get.add_option("SERVER", first_, server_help_)->required();
    get.callback([this] { chosen_ = [this] { return molt::cli::get_state(with_, first_); }; });
    auto& set = add(state, "set", "Replace it, between two messages; self_check may refuse it", true,
                    "  molt state set counter '{\"value\": 3}'\n"
                    "  molt state set counter @state.json\n"
                    "  molt state get counter | sed s/3/4/ | molt state set counter -\n");
    set.add_option("SERVER", state_.server, server_help_)->required();
    set.add_option("STATE", state_.state, "JSON, @FILE, or - for stdin")->required();
    set.add_flag("--whole", state_.whole, "The JSON holds what format_status hides, too");
    set.callback([this] { chosen_ = [this] { return molt::cli::set_state(with_, state_); }; });

    auto& suspend = add("suspend", "Hold a server between two messages; its messages wait", true,
                        "  molt suspend counter && molt state get counter; molt resume counter\n");
    suspend.add_option("SERVER", first_, server_help_)->required();
    suspend.callback([this] { chosen_ = [this] { return molt::cli::suspend(with_, first_); }; });
    auto& resume = add("resume", "Let a suspended server go on", true, "  molt resume counter\n");
    resume.add_option("SERVER", first_, server_help_)->required();
    resume.callback([this] { chosen_ = [this] { return molt::cli::resume(with_, first_); }; });

    auto& trace = add("trace", "Show the messages that a server handles, until Ctrl-C", true,
                      "  molt trace counter\n  molt trace counter --for 10s --json | jq .took_ns\n");
    trace.add_option("SERVER", trace_.server, server_help_)->required();
    add_duration(trace, "--for", trace_.lasts, "End by itself after so long");
    trace.callback([this] {
      if (trace_.lasts.count() == 0) trace_.lasts = std::chrono::hours{24 * 365};
      chosen_ = [this] { return molt::cli::trace(with_, trace_); };
    });
    auto& record = add("record", "Keep the last messages of a server for crash reports; without N, show them", true,
                       "  molt record counter 16\n  molt record counter\n  molt record counter 0\n");
    record.add_option("SERVER", record_.server, server_help_)->required();
    record.add_option("N", record_.messages, "So many are kept, also after a restart; 0: none any more")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{1024}));
    record
        .add_option("--payload-bytes", record_.payload_bytes,
                    "Keep their payloads too, up to so many bytes; they are never shown")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{16} << 20U));
    record.callback([this] { chosen_ = [this] { return molt::cli::record(with_, record_); }; });
  }

  void add_top() {
    auto& top = add("top", "The busiest servers, live; q ends. Without a terminal: one table", true,
                    "  molt top\n  molt top --interval 5s --count 3\n"
                    "  molt top --json | jq '.servers[0].name'\n");
    add_duration(top, "--interval", top_.interval, "Between two tables; 1s unless given");
    top.add_option("--count", top_.count, "End after so many tables")
        ->type_name("N")
        ->check(CLI::Range(1U, 1'000'000U));
    top.callback([this] { chosen_ = [this] { return molt::cli::top(with_, top_); }; });
  }

  /// A positive number of s, ms, m or h, at most a year.
  static void add_duration(CLI::App& to, const std::string& name, std::chrono::milliseconds& into,
                           const std::string& what) {
    const auto parse = [&into](const std::string& text) {
      static const std::map<std::string, double> units{{"ms", 1}, {"", 1e3}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}};
      const auto digits = text.find_first_not_of("0123456789.");
      const auto unit = units.find(digits == std::string::npos ? "" : text.substr(digits));
      const double count = text.empty() || digits == 0 ? 0 : std::strtod(text.c_str(), nullptr);
      const double milliseconds = unit == units.end() ? 0 : count * unit->second;
      if (!(milliseconds >= 1 && milliseconds <= 365.0 * 24 * 3600e3)) return false;
      into = std::chrono::milliseconds{static_cast<std::int64_t>(milliseconds)};
      return true;
    };
    to.add_option_function<std::string>(
          name,
          [parse, name](const std::string& text) {
            if (!parse(text)) throw CLI::ValidationError(name, "expected a time such as 10s, 500ms or 2m, not " + text);
          },
          what)
        ->type_name("TIME");
  }

  void add_crashes() {
    auto& crashes = add("crashes", "Reports of servers that failed and of nodes that died", true,
                        "  molt crashes\n"
                        "  molt crashes show latest\n"
                        "  molt crashes show 20261121T171533-51234501 --json | jq .stack\n"
                        "  molt crashes --dir /var/lib/molt/crashes   # without moltd\n");
    crashes.add_option("--dir", crashes_.folder, "Read this folder rather than ask moltd; it is crashes/ in the store")
        ->type_name("DIR");
    crashes.require_subcommand(0, 1);
    auto& show = *crashes.add_subcommand("show", "One report");
    help_->add("show", "  molt crashes show latest\n  molt crashes show 20261121T171533\n");
    show.fallthrough();
    show.footer(exit_codes);
    show.add_option("ID", crashes_.id, "A report's id, its beginning, or latest")->required();
    crashes.callback([this, &show] {
      crashes_.show = show.parsed();
      chosen_ = [this] { return molt::cli::crashes(with_, crashes_); };
    });
  }

  static void add_losses(CLI::App& to, std::vector<std::string>& losses) {
    to.add_option("--accept-loss", losses, "A loss of the way back that is accepted; may be repeated")
        ->type_name("NAME")
        ->take_all()
        ->expected(1);
  }

  static constexpr const char* from_kept_help =
      "Servers whose hooks fail or are missing become what they were when they migrated";

  void add_keep_states(CLI::App& to) {
    to.add_flag("--keep-states", change_.keep_states,
                "Keep what each server was until commit or rollback, for molt rollback --from-kept");
  }

  void add_replay(CLI::App& to) {
    to.add_option(
          "--replay", change_.replay,
          "In the rehearsal: handle recorded messages again on both versions; another reply is shown (report) or "
          "keeps it from passing (strict)")
        ->check(CLI::IsMember({"off", "report", "strict"}));
  }

  void add_switch_timeout(CLI::App& to) {
    to.add_option("--switch-timeout-ms", change_.switch_timeout_ms,
                  "Mode atomic: how long everything may rest; the manifest's unless given")
        ->type_name("MS")
        ->check(CLI::Range(1L, 86'400'000L));
  }

  void add_mode(CLI::App& to) {
    to.add_option("--mode", change_.mode, "lazy or atomic; the manifest's unless given")
        ->check(CLI::IsMember({"lazy", "atomic"}));
  }

  static void add_arguments(CLI::App& to, molt::cli::key_values& arguments) {
    to.add_option("--argument", arguments, "For the hooks; may be repeated")
        ->type_name("KEY=VALUE")
        ->take_all()
        ->expected(1);
  }

  void add_change(CLI::App& to) {
    add_losses(to, change_.accept_loss);
    add_arguments(to, change_.arguments);
    to.add_option("--timeout", timeout_s_, "How long to wait for moltd's answer, in seconds")
        ->type_name("S")
        ->check(CLI::Range(1L, 86'400L))
        ->capture_default_str();
    to.parse_complete_callback([this] { change_.timeout = std::chrono::seconds{timeout_s_}; });
  }

  const std::string release_help_ = "A release's id, e.g. counter-2.0.0, or its version where that is unique";
  const std::string server_help_ = "A server's name, or its reference as `molt servers` shows it";
  std::shared_ptr<examples_first> help_;
  CLI::App app_{"molt gives running C++ servers new code and keeps their state."};
  settings with_{std::string{molt::cli::default_socket}, false};
  std::function<int()> chosen_;

  molt::cli::inspect_request inspect_;
  std::string first_;
  std::string second_;
  std::vector<std::string> several_;
  bool one_way_ = false;
  molt::cli::plan_request plan_;
  molt::cli::change_request change_;
  molt::cli::servers_request servers_;
  molt::cli::call_request call_;
  molt::cli::crashes_request crashes_;
  molt::cli::state_request state_;
  molt::cli::trace_request trace_;
  molt::cli::record_request record_;
  molt::cli::top_request top_;
  long timeout_ms_ = 5000;
  long timeout_s_ = 3600;
};

}  // namespace

int main(int argc, char** argv) {
  molt::open_standard_files();
  try {
    command_line line;
    const int exit_code = line.run(argc, argv);
    return molt::cli::check_output(exit_code, line.changes());
  } catch (const std::exception& unexpected) {
    molt::cli::report_error(
        {}, molt::error{molt::reason::internal, unexpected.what(), "this is a fault of molt; report it"}, {},
        molt::cli::exit_failed);
    return molt::cli::exit_failed;
  }
}
