#include "releases/manifest.hpp"

#include "tests/base/scratch_folder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <filesystem>
#include <ostream>
#include <string>

namespace molt::releases {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using tests::scratch_folder;

const std::string head =
    "[release]\n"                  // 1
    "name = \"kv\"\n"              // 2
    "version = \"1.0.0\"\n"        // 3
    "[[plugin]]\n"                 // 4
    "name = \"kv\"\n"              // 5
    "version = \"1.0.0\"\n"        // 6
    "file = \"plugins/kv.so\"\n";  // 7: what a test adds begins on line 8

/// What a manifest is refused with; empty if it is not.
std::string refusal(const std::string& text) {
  const auto read = parse_manifest(text);
  return read ? "" : read.error().message();
}

TEST(manifest, reads_everything_the_reference_shows) {
  const auto read = parse_manifest(head + R"(
[supervisor]
intensity = 7
period_ms = 1000
[[server]]
name = "kv.store"
type = "kv.store"
restart = "transient"
shutdown_ms = 250
record_messages = 16
record_payload_bytes = 65536
arguments = { databases = "1", append = "no" }
[[server]]
name = "second"
type = "kv.store"
[[listener]]
name = "redis"
address = "127.0.0.1:6379"
connection = "kv.connection"
connections_max = 50
arguments = { greeting = "hello" }
[[listener]]
name = "redis6"
address = "[::1]:6379"
connection = "kv.connection"
[upgrade]
mode = "atomic"
hook_timeout_ms = 10
switch_timeout_ms = 20
on_failure = "quarantine"
one_way = true
keep_states = true
keep_states_mb = 64
keep_images = true
tripwire_ms = 250
rehearsal_replay = "strict"
arguments = { "size" = "2" }
)");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->id(), "kv-1.0.0");
  ASSERT_EQ(read->plugins.size(), 1U);
  EXPECT_EQ(read->plugins[0].file, "plugins/kv.so");
  EXPECT_EQ(read->plugins[0].line, 4U);
  EXPECT_EQ(read->supervisor.intensity, 7U);
  EXPECT_EQ(read->supervisor.period, milliseconds{1000});
  ASSERT_EQ(read->servers.size(), 2U);
  EXPECT_EQ(read->servers[0].restart, restart_kind::transient);
  EXPECT_EQ(read->servers[0].shutdown, milliseconds{250});
  EXPECT_EQ(read->servers[0].arguments, (argument_list{{"append", "no"}, {"databases", "1"}}));
  EXPECT_EQ(read->servers[0].record_messages, 16U);
  EXPECT_EQ(read->servers[0].record_payload_bytes, 65536U);
  EXPECT_EQ(read->servers[1].name, "second");
  ASSERT_EQ(read->listeners.size(), 2U);
  EXPECT_EQ(read->listeners[0].address.text(), "127.0.0.1:6379");
  EXPECT_EQ(read->listeners[0].connections_max, 50U);
  EXPECT_EQ(read->listeners[1].address.text(), "[::1]:6379");
  EXPECT_EQ(read->listeners[1].address.host, "::1");
  EXPECT_EQ(read->upgrade.mode, upgrade_mode::atomic);
  EXPECT_EQ(read->upgrade.hook_timeout, milliseconds{10});
  EXPECT_EQ(read->upgrade.switch_timeout, milliseconds{20});
  EXPECT_EQ(read->upgrade.on_failure, failure_policy::quarantine);
  EXPECT_TRUE(read->upgrade.one_way);
  EXPECT_TRUE(read->upgrade.keep_states);
  EXPECT_EQ(read->upgrade.keep_states_mb, 64U);
  EXPECT_TRUE(read->upgrade.keep_images);
  EXPECT_EQ(read->upgrade.tripwire, std::chrono::milliseconds{250});
  EXPECT_EQ(read->upgrade.rehearsal_replay, replay_kind::strict);
  EXPECT_EQ(read->upgrade.arguments, (argument_list{{"size", "2"}}));
}

TEST(manifest, has_the_defaults_the_reference_states) {
  const auto read = parse_manifest(head +
                                   "[[server]]\nname='s'\ntype='kv.s'\n[[listener]]\nname='l'\n"
                                   "address='127.0.0.1:0'\nconnection='kv.c'\n");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->supervisor.intensity, 3U);
  EXPECT_EQ(read->supervisor.period, milliseconds{5000});
  EXPECT_EQ(read->servers[0].restart, restart_kind::permanent);
  EXPECT_EQ(read->servers[0].shutdown, milliseconds{5000});
  EXPECT_EQ(read->listeners[0].connections_max, 10'000U);
  EXPECT_EQ(read->upgrade.mode, upgrade_mode::lazy);
  EXPECT_EQ(read->upgrade.hook_timeout, milliseconds{5000});
  EXPECT_EQ(read->upgrade.switch_timeout, milliseconds{5000});
  EXPECT_EQ(read->upgrade.on_failure, failure_policy::rollback);
  EXPECT_FALSE(read->upgrade.one_way);
  EXPECT_FALSE(read->upgrade.keep_states);
  EXPECT_EQ(read->upgrade.rehearsal_replay, replay_kind::off);
}

TEST(manifest, reads_a_tree_of_supervisors_in_the_order_of_the_file) {
  const auto read = parse_manifest(head + R"([supervisor]
strategy = "rest_for_one"
[[server]]
name = "first"
type = "kv.s"
[supervisor.z]
strategy = "one_for_all"
intensity = 7
period_ms = 100
auto_shutdown = "all_significant"
restart = "transient"
[[server]]
name = "second"
type = "kv.s"
supervisor = "z"
restart = "transient"
significant = true
shutdown_ms = "infinity"
[supervisor.pool]
strategy = "dynamic"
parent = "z"
auto_shutdown = "any_significant"
restart = "temporary"
significant = true
children_max = 5
[supervisor.pool.child]
type = "kv.session"
restart = "transient"
significant = true
shutdown_ms = "brutal"
arguments = { a = "b" }
[[server]]
name = "third"
type = "kv.s"
supervisor = "root"
)");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->supervisor.strategy, strategy_kind::rest_for_one);
  ASSERT_EQ(read->supervisors.size(), 2U);
  const auto& z = read->supervisors[0];
  EXPECT_EQ(z.name, "z");
  EXPECT_EQ(z.parent, "");
  EXPECT_EQ(z.settings.strategy, strategy_kind::one_for_all);
  EXPECT_EQ(z.settings.intensity, 7U);
  EXPECT_EQ(z.settings.period, milliseconds{100});
  EXPECT_EQ(z.restart, restart_kind::transient);
  const auto& pool = read->supervisors[1];
  EXPECT_EQ(pool.parent, "z");
  EXPECT_EQ(pool.children_max, 5U);
  EXPECT_EQ(pool.child.type, "kv.session");
  EXPECT_EQ(pool.child.restart, restart_kind::transient);
  EXPECT_TRUE(pool.significant && pool.child.significant);
  EXPECT_EQ(pool.settings.auto_shutdown, auto_shutdown_kind::any_significant);
  EXPECT_EQ(z.settings.auto_shutdown, auto_shutdown_kind::all_significant);
  EXPECT_FALSE(z.significant || read->servers[0].significant);
  EXPECT_TRUE(read->servers[1].significant);
  EXPECT_EQ(pool.child.shutdown, shutdown_brutal);
  EXPECT_EQ(pool.child.arguments, (argument_list{{"a", "b"}}));
  ASSERT_EQ(read->servers.size(), 3U);
  EXPECT_LT(read->servers[0].at, z.at);
  EXPECT_LT(z.at, read->servers[1].at);
  EXPECT_EQ(read->servers[1].supervisor, "z");
  EXPECT_EQ(read->servers[1].shutdown, shutdown_infinity);
  EXPECT_EQ(read->servers[2].supervisor, "");
}

TEST(manifest, bounds_supervisors_and_how_deep_they_stand) {
  std::string deep = head + "[supervisor.s0]\n";
  for (std::size_t i = 1; i < supervisors_depth_max; ++i)
    deep += "[supervisor.s" + std::to_string(i) + "]\nparent = 's" + std::to_string(i - 1) + "'\n";
  EXPECT_EQ(parse_manifest(deep).error().why(), reason::out_of_bounds);
  std::string many = head;
  for (std::size_t i = 0; i <= supervisors_max; ++i) many += "[supervisor.s" + std::to_string(i) + "]\n";
  EXPECT_EQ(parse_manifest(many).error().why(), reason::out_of_bounds);
}

struct refused_case {
  const char* name;
  const char* addition;  ///< after head, from line 8
  const char* message;
  // Without it a test's name would show the addresses within, and differ from run to run.
  friend void PrintTo(const refused_case& each, std::ostream* out) { *out << each.name; }
};

class refused_manifest : public testing::TestWithParam<refused_case> {};

TEST_P(refused_manifest, names_line_table_and_key) {
  EXPECT_EQ(refusal(head + GetParam().addition), std::string{"release.toml:"} + GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    all, refused_manifest,
    testing::Values(
        refused_case{"unknown_key", "[[listener]]\nname = \"redis\"\nadress = \"127.0.0.1:1\"\nconnection = \"kv.c\"\n",
                     "10: [[listener]] redis: unknown key \"adress\"; did you mean \"address\"?"},
        refused_case{"unknown_key_like_nothing", "[supervisor]\ncolour = \"red\"\n",
                     "9: [supervisor]: unknown key \"colour\""},
        refused_case{"unknown_table", "[supervisr]\nintensity = 1\n",
                     "8: unknown key \"supervisr\"; did you mean \"supervisor\"?"},
        refused_case{"key_of_the_plugin_before", "naem = \"x\"\n",
                     "8: [[plugin]] kv: unknown key \"naem\"; did you mean \"name\"?"},
        refused_case{"text_for_number", "[supervisor]\nintensity = \"3\"\n",
                     "9: [supervisor]: \"intensity\" must be an integer, not a string"},
        refused_case{"float_for_number", "[supervisor]\nperiod_ms = 1.5\n",
                     "9: [supervisor]: \"period_ms\" must be an integer, not a floating-point number"},
        refused_case{"number_for_text", "[[server]]\nname = 5\n",
                     "9: [[server]]: \"name\" must be a string, not an integer"},
        refused_case{"number_for_argument", "[[server]]\nname='s'\ntype='kv.s'\narguments = { n = 5 }\n",
                     "11: [[server]] s: the argument \"n\" must be a string, not an integer; put the value in quotes"},
        refused_case{"text_for_boolean", "[upgrade]\none_way = \"yes\"\n",
                     "9: [upgrade]: \"one_way\" must be true or false, not a string"},
        refused_case{"text_for_arguments", "[upgrade]\narguments = \"a=b\"\n",
                     "9: [upgrade]: \"arguments\" must be a table, not a string"},
        refused_case{"unknown_word", "[upgrade]\nmode = \"eager\"\n",
                     "9: [upgrade]: \"mode\" must be \"lazy\" or \"atomic\", not \"eager\""},
        refused_case{"number_too_large", "[upgrade]\nhook_timeout_ms = 86400001\n",
                     "9: [upgrade]: \"hook_timeout_ms\" must be between 1 and 86400000, not 86400001"},
        refused_case{"negative_number", "[supervisor]\nintensity = -1\n",
                     "9: [supervisor]: \"intensity\" must be between 0 and 1000, not -1"},
        refused_case{"no_connections",
                     "[[listener]]\nname='l'\naddress='127.0.0.1:1'\nconnection='kv.c'\nconnections_max=0\n",
                     "12: [[listener]] l: \"connections_max\" must be between 1 and 1000000, not 0"},
        refused_case{"missing_key", "[[server]]\nname = \"s\"\n", "8: [[server]] s: \"type\" is missing"},
        refused_case{"duplicate_plugin", "[[plugin]]\nname='kv'\nversion='2.0.0'\nfile='b.so'\n",
                     "9: [[plugin]] kv: duplicate name \"kv\", first on line 4"},
        refused_case{"duplicate_file", "[[plugin]]\nname='b'\nversion='2.0.0'\nfile='plugins/kv.so'\n",
                     "11: [[plugin]] b: duplicate file \"plugins/kv.so\", first on line 4"},
        refused_case{"duplicate_server", "[[server]]\nname='s'\ntype='kv.s'\n[[server]]\nname='s'\ntype='kv.t'\n",
                     "12: [[server]] s: duplicate name \"s\", first on line 8"},
        refused_case{"duplicate_listener",
                     "[[listener]]\nname='l'\naddress='127.0.0.1:1'\nconnection='kv.c'\n"
                     "[[listener]]\nname='l'\naddress='127.0.0.1:2'\nconnection='kv.c'\n",
                     "13: [[listener]] l: duplicate name \"l\", first on line 8"},
        refused_case{"duplicate_address",
                     "[[listener]]\nname='l'\naddress='127.0.0.1:1'\nconnection='kv.c'\n"
                     "[[listener]]\nname='m'\naddress='127.0.0.1:1'\nconnection='kv.c'\n",
                     "14: [[listener]] m: duplicate address \"127.0.0.1:1\", first on line 8"},
        refused_case{
            "bad_address", "[[listener]]\nname='l'\naddress='localhost:1'\nconnection='kv.c'\n",
            "10: [[listener]] l: \"address\": \"localhost:1\" is no address: the host must be a literal IPv4 address, "
            "or an IPv6 address in brackets; write \"127.0.0.1:6379\" or \"[::1]:6379\""},
        refused_case{
            "absolute_file", "[[plugin]]\nname='b'\nversion='1'\nfile='/b.so'\n",
            "11: [[plugin]] b: \"file\" must be a path below the manifest's folder, as in \"plugins/libb-1.so\", "
            "not \"/b.so\""},
        refused_case{
            "escaping_file", "[[plugin]]\nname='b'\nversion='1'\nfile='plugins/../../b.so'\n",
            "11: [[plugin]] b: \"file\" must be a path below the manifest's folder, as in \"plugins/libb-1.so\", "
            "not \"plugins/../../b.so\""},
        refused_case{"odd_name", "[[server]]\nname='a/b'\ntype='kv.s'\n",
                     "9: [[server]]: \"name\" must be letters, digits and . _ - (1 to 128, not beginning with . or -), "
                     "not \"a/b\""},
        refused_case{"type_of_no_plugin", "[[server]]\nname='s'\ntype='kw.s'\n",
                     "10: [[server]] s: \"type\": \"kw.s\" belongs to no [[plugin]] of this release; a type is written "
                     "\"plugin.type\""},
        refused_case{
            "unknown_strategy", "[supervisor]\nstrategy = \"one_for_none\"\n",
            "9: [supervisor]: \"strategy\" must be \"one_for_one\" or \"one_for_all\" or \"rest_for_one\", not "
            "\"one_for_none\""},
        refused_case{
            "dynamic_root", "[supervisor]\nstrategy = \"dynamic\"\n",
            "9: [supervisor]: \"strategy\" must be \"one_for_one\" or \"one_for_all\" or \"rest_for_one\", not "
            "\"dynamic\""},
        refused_case{
            "unknown_strategy_below", "[supervisor.a]\nstrategy = \"all\"\n",
            "9: [supervisor.a]: \"strategy\" must be \"one_for_one\" or \"one_for_all\" or \"rest_for_one\" or "
            "\"dynamic\", not \"all\""},
        refused_case{"unknown_parent", "[supervisor.a]\nparent = \"b\"\n",
                     "9: [supervisor.a]: \"parent\": there is no [supervisor.b]"},
        refused_case{"own_parent", "[supervisor.a]\nparent = \"a\"\n",
                     "9: [supervisor.a]: its parents lead back to it: a -> a"},
        refused_case{"circle",
                     "[supervisor.a]\nparent = \"c\"\n[supervisor.b]\nparent = \"a\"\n[supervisor.c]\nparent = \"b\"\n",
                     "9: [supervisor.a]: its parents lead back to it: a -> c -> b -> a"},
        refused_case{"duplicate_supervisor", "[supervisor.a]\nintensity = 1\n[supervisor.a]\nintensity = 2\n",
                     "10: Error while parsing table header: cannot redefine existing table 'supervisor.a'"},
        refused_case{"server_named_as_a_supervisor",
                     "[supervisor.s]\nintensity = 1\n[[server]]\nname='s'\ntype='kv.s'\n",
                     "11: [[server]] s: duplicate name \"s\", first on line 8, of a supervisor"},
        refused_case{"supervisor_named_root", "[supervisor.root]\nintensity = 1\n",
                     "8: [supervisor.root]: root is the supervisor that [supervisor] is about"},
        refused_case{"odd_supervisor_name", "[supervisor.\"a/b\"]\nintensity = 1\n",
                     "8: [supervisor.a/b]: a supervisor's name must be letters, digits and . _ -"},
        refused_case{"server_of_no_supervisor", "[[server]]\nname='s'\ntype='kv.s'\nsupervisor='x'\n",
                     "11: [[server]] s: \"supervisor\": there is no [supervisor.x]"},
        refused_case{"server_of_a_dynamic_supervisor",
                     "[supervisor.p]\nstrategy='dynamic'\nchild={type='kv.s'}\n"
                     "[[server]]\nname='s'\ntype='kv.s'\nsupervisor='p'\n",
                     "14: [[server]] s: \"supervisor\": the supervisor p is dynamic: its children are started while it "
                     "runs"},
        refused_case{
            "dynamic_without_children", "[supervisor.p]\nstrategy='dynamic'\n",
            "8: [supervisor.p]: a dynamic supervisor needs a table [supervisor.p.child] with the \"type\" of its "
            "children"},
        refused_case{"dynamic_with_a_type_of_no_plugin",
                     "[supervisor.p]\nstrategy='dynamic'\n[supervisor.p.child]\ntype='kw.s'\n",
                     "11: [supervisor.p.child]: \"type\": \"kw.s\" belongs to no [[plugin]] of this release; a type is "
                     "written \"plugin.type\""},
        refused_case{"children_of_one_that_is_not_dynamic", "[supervisor.p]\nchild={type='kv.s'}\n",
                     "9: [supervisor.p]: unknown key \"child\""},
        refused_case{"significant_and_permanent",
                     "[supervisor.z]\nauto_shutdown='any_significant'\n"
                     "[[server]]\nname='s'\ntype='kv.s'\nsupervisor='z'\nsignificant=true\n",
                     "14: [[server]] s: \"significant\": what is permanent never ends by itself; \"restart\" must be "
                     "\"transient\" or \"temporary\""},
        refused_case{"significant_below_one_that_never_shuts_down",
                     "[supervisor.z]\nintensity=1\n[supervisor.y]\nparent='z'\nrestart='transient'\nsignificant=true\n",
                     "13: [supervisor.y]: \"significant\": the \"auto_shutdown\" of the supervisor z is \"never\""},
        refused_case{"significant_to_the_root",
                     "[[server]]\nname='s'\ntype='kv.s'\nrestart='transient'\nsignificant=true\n",
                     "12: [[server]] s: \"significant\": the root never shuts down by itself"},
        refused_case{
            "significant_children_of_one_that_never_shuts_down",
            "[supervisor.p]\nstrategy='dynamic'\n[supervisor.p.child]\ntype='kv.s'\nsignificant=true\n",
            "12: [supervisor.p.child]: \"significant\": the \"auto_shutdown\" of the supervisor p is \"never\""},
        refused_case{"record_nothing_but_payloads", "[[server]]\nname='s'\ntype='kv.s'\nrecord_payload_bytes=1\n",
                     "11: [[server]] s: \"record_payload_bytes\" without \"record_messages\" keeps nothing"},
        refused_case{"unknown_shutdown", "[[server]]\nname='s'\ntype='kv.s'\nshutdown_ms='soon'\n",
                     "11: [[server]] s: \"shutdown_ms\" must be a number, \"brutal\" or \"infinity\", not \"soon\""},
        refused_case{"table_for_array", "[server]\nname='s'\n",
                     "8: \"server\" must be an array of tables: write [[server]] on a line"},
        refused_case{"array_for_table", "[[upgrade]]\nmode='lazy'\n",
                     "8: [upgrade] must be a table: write [upgrade] on a line"}),
    [](const auto& one) { return std::string{one.param.name}; });

TEST(manifest, refuses_a_name_before_it_stands_in_an_error) {
  EXPECT_THAT(refusal(head + "[[server]]\nname=\"a\\u001b[31m\"\ntype='kv.s'\n"), testing::Not(HasSubstr("\x1b")));
}

TEST(manifest, needs_a_release_and_a_plugin) {
  EXPECT_EQ(refusal(""), "release.toml:1: the table [release] is missing");
  EXPECT_EQ(refusal("[release]\nname='a'\nversion='1'\n"), "release.toml:1: a release needs at least one [[plugin]]");
}

TEST(manifest, shows_where_the_syntax_is_wrong) {
  EXPECT_THAT(refusal("[release]\nname = \n"), HasSubstr("release.toml:2: "));
  EXPECT_THAT(refusal("[release]\nname = 'a'\nname = 'b'\n"), HasSubstr("release.toml:3: "));
  EXPECT_THAT(refusal("[release]\nname = \"\xff\"\n"), HasSubstr("release.toml:2: "));
}

TEST(manifest, bounds_size_counts_and_depth) {
  EXPECT_EQ(parse_manifest(std::string(manifest_bytes_max + 1, '\n')).error().why(), reason::out_of_bounds);
  std::string many = head;
  for (std::size_t i = 0; i <= listeners_max; ++i)
    many += "[[listener]]\nname='l" + std::to_string(i) + "'\naddress='127.0.0.1:0'\nconnection='kv.c'\n";
  EXPECT_EQ(parse_manifest(many).error().why(), reason::out_of_bounds);
  std::string arguments = head + "[upgrade.arguments]\n";
  for (std::size_t i = 0; i <= arguments_max; ++i) arguments += "a" + std::to_string(i) + " = ''\n";
  EXPECT_EQ(parse_manifest(arguments).error().why(), reason::out_of_bounds);
  EXPECT_EQ(parse_manifest(head + "[upgrade.arguments]\na = '" + std::string(argument_bytes_max + 1, 'x') + "'\n")
                .error()
                .why(),
            reason::out_of_bounds);
}

TEST(manifest, survives_keys_and_values_nested_without_end) {
  std::string dots = "a";
  for (int i = 0; i < 300'000; ++i) dots += ".a";
  EXPECT_EQ(parse_manifest(dots + " = 1\n").error().why(), reason::out_of_bounds);
  EXPECT_EQ(parse_manifest('[' + dots + "]\n").error().why(), reason::out_of_bounds);
  EXPECT_EQ(parse_manifest("t = { a = \"\"\"x\"\"\"\", " + dots + " = 1 }\n").error().why(), reason::out_of_bounds)
      << "a string that ends with four quotes must not hide what follows";
  EXPECT_FALSE(parse_manifest("a = " + std::string(100'000, '[')));
  std::string tables = "a = ";
  for (int i = 0; i < 100'000; ++i) tables += "{a=";
  EXPECT_FALSE(parse_manifest(tables));
}

TEST(manifest, does_not_count_the_dots_in_strings_and_comments) {
  const auto read = parse_manifest(head +
                                   "# a.b.c.d.e.f.g.h.i.j.k\n[upgrade.arguments]\na = 'a.b.c.d.e.f.g.h.i.j.k'\n"
                                   "b = \"\"\"a.b.c.d\n.e.f.g.h.\"\".i.j.k\"\"\"\nc = \"\\\"a.b.c.d.e.f.g.h.i.j.k\"\n");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read->upgrade.arguments.size(), 3U);
}

TEST(manifest, checks_that_the_files_it_names_are_there) {
  const scratch_folder folder;
  EXPECT_EQ(read_manifest(folder.path()).error().why(), reason::not_found);
  tests::write_file(folder / "release.toml", head);
  const auto absent = read_manifest(folder.path());
  ASSERT_FALSE(absent);
  EXPECT_EQ(absent.error().message(),
            (folder / "release.toml").string() + ":4: [[plugin]] kv: the file \"plugins/kv.so\" is not there");
  tests::write_file(folder / "plugins/kv.so", "");
  EXPECT_TRUE(read_manifest(folder.path()));
}

TEST(manifest, refuses_files_that_are_links_or_folders) {
  const scratch_folder folder;
  tests::write_file(folder / "release.toml", head);
  tests::write_file(folder / "elsewhere/kv.so", "");
  std::filesystem::create_directory_symlink("elsewhere", folder / "plugins");
  EXPECT_THAT(read_manifest(folder.path()).error().message(), HasSubstr("is reached by a symbolic link"));
  std::filesystem::remove(folder / "plugins");
  std::filesystem::create_directories(folder / "plugins/kv.so");
  EXPECT_THAT(read_manifest(folder.path()).error().message(), HasSubstr("not a regular file"));
}

TEST(listen_address, reads_literal_addresses) {
  EXPECT_EQ(parse_listen_address("0.0.0.0:65535")->port, 65535);
  EXPECT_TRUE(parse_listen_address("[::]:0")->ipv6);
  for (const char* text :
       {"", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1: 1", "127.0.0.1:1x",
        "127.1:1", "::1:80", "[::1]80", "[127.0.0.1]:1", "[::1:80", "[]:80", "host:80", "[fe80::1%eth0]:1"})
    EXPECT_FALSE(parse_listen_address(text)) << text;
}

}  // namespace
}  // namespace molt::releases
