// State, status and trace of single servers over the control API, in a running box.
#include "node/server_api.hpp"

#include "node/api_error.hpp"
#include "node/node_api.hpp"
#include "node_fixture.hpp"

#include <gmock/gmock.h>
#include <boost/json.hpp>

#include <random>

namespace molt::node {
namespace {

namespace json = boost::json;
using testing::HasSubstr;

class server_api_test : public box_test {
 protected:
  void SetUp() override {
    box_test::SetUp();
    start();
    call("keeper", "keep", R"({"text":"a"})");
    call("keeper", "keep", R"({"text":"b"})");
  }
  json::value ask(const std::string& method, const std::string& path, const std::string& body = {},
                  std::vector<std::pair<std::string, std::string>> query = {}) {
    const auto answered = answer(*box_, {method, path, std::move(query), body});
    status_ = answered.status;
    return json::parse(answered.body);
  }
  /// "reason: message" of an error.
  std::string refusal(const std::string& method, const std::string& path, const std::string& body = {},
                      std::vector<std::pair<std::string, std::string>> query = {}) {
    const auto answered = answer(*box_, {method, path, std::move(query), body});
    status_ = answered.status;
    const auto failed = error_of(answered);
    return failed ? std::string{to_string(failed->what.why())} + ": " + failed->what.message() : "no error";
  }
  std::string state() { return json::serialize(ask("GET", "/v1/servers/keeper/state").at("state")); }

  unsigned status_ = 0;
};

TEST_F(server_api_test, lists_servers_with_their_statistics) {
  const auto listed = ask("GET", "/v1/servers", {}, {{"measure", "true"}});
  ASSERT_EQ(listed.at("total").as_int64(), 1);
  const auto& keeper = listed.at("servers").at(0);
  EXPECT_EQ(keeper.at("name").as_string(), "keeper");
  EXPECT_EQ(keeper.at("handled").to_number<int>(), 2);
  EXPECT_GE(keeper.at("archive_bytes").to_number<int>(), 2);
  EXPECT_THAT(std::string{keeper.at("started_at").as_string()}, testing::MatchesRegex("20..-..-..T..:..:..Z"));
  EXPECT_FALSE(keeper.at("watched").as_bool());
  EXPECT_EQ(keeper.at("queued_most").to_number<int>(), 0);
}

TEST_F(server_api_test, lists_the_first_by_an_order) {
  box_.reset();
  shape two;
  two.servers += "[[server]]\nname = \"other\"\ntype = \"line.keeper\"\n";
  start(two);
  call("other", "keep", R"({"text":"a"})");
  const auto listed = ask("GET", "/v1/servers", {}, {{"order", "handled"}, {"limit", "1"}});
  EXPECT_EQ(listed.at("total").as_int64(), 2);
  ASSERT_EQ(listed.at("servers").as_array().size(), 1U);
  EXPECT_EQ(listed.at("servers").at(0).at("name").as_string(), "other");
  EXPECT_THAT(refusal("GET", "/v1/servers", {}, {{"order", "beauty"}}), HasSubstr("order: expected handled"));
  EXPECT_THAT(refusal("GET", "/v1/servers", {}, {{"limit", "-1"}}), HasSubstr("limit: expected a number"));
  EXPECT_THAT(refusal("GET", "/v1/servers", {}, {{"measure", "maybe"}}), HasSubstr("measure: expected true"));
}

TEST_F(server_api_test, shows_and_replaces_a_state_as_json) {
  EXPECT_EQ(state(), R"({"texts":["a","b"]})");
  const auto got = ask("GET", "/v1/servers/keeper/state");
  EXPECT_EQ(got.at("type").as_string(), "line.keeper");
  EXPECT_EQ(got.at("version").as_string(), "1.0.0");
  EXPECT_FALSE(got.at("formatted").as_bool());
  ask("PUT", "/v1/servers/keeper/state", R"({"state":{"texts":["x"]}})");
  EXPECT_EQ(status_, 200U);
  EXPECT_EQ(state(), R"({"texts":["x"]})");
  EXPECT_EQ(call("keeper", "keep", R"({"text":"y"})"), "2") << "the server goes on from there";
}

TEST_F(server_api_test, finds_a_server_by_its_reference_too) {
  const auto ref = std::to_string(ask("GET", "/v1/servers/keeper/status").at("ref").to_number<std::uint64_t>());
  EXPECT_EQ(ask("GET", "/v1/servers/" + ref + "/status").at("name").as_string(), "keeper");
  EXPECT_THAT(refusal("GET", "/v1/servers/" + ref + "9/status"), HasSubstr("nor has that reference"));
  EXPECT_EQ(status_, 404U);
  EXPECT_THAT(refusal("GET", "/v1/servers/nobody/state"), HasSubstr("no_such_server: no server is named nobody"));
  EXPECT_THAT(refusal("GET", "/v1/servers//state"), HasSubstr("no_such_server"));
}

TEST_F(server_api_test, names_the_member_that_does_not_fit_and_keeps_the_state) {
  const std::string path = "/v1/servers/keeper/state";
  EXPECT_THAT(refusal("PUT", path, R"({"state":{"texts":[1]}})"), HasSubstr("state.texts[0]"));
  EXPECT_THAT(refusal("PUT", path, R"({"state":{}})"), HasSubstr("state.texts: missing"));
  EXPECT_THAT(refusal("PUT", path, R"({"state":{"texts":[],"more":1}})"), HasSubstr("state.more"));
  EXPECT_THAT(refusal("PUT", path, "{}"), HasSubstr("state: expected the state"));
  EXPECT_THAT(refusal("PUT", path, R"({"state":{"texts":[]},"colour":1})"), HasSubstr("colour"));
  EXPECT_THAT(refusal("PUT", path, "["), HasSubstr("no JSON"));
  EXPECT_THAT(refusal("POST", path, "{}"), HasSubstr("expected GET or PUT, got POST"));
  EXPECT_EQ(status_, 405U);
  EXPECT_EQ(state(), R"({"texts":["a","b"]})");
}

TEST_F(server_api_test, refuses_a_state_over_the_bound) {
  const std::string large(state_bytes_max, 'x');
  EXPECT_THAT(refusal("PUT", "/v1/servers/keeper/state", R"({"state":{"texts":[")" + large + R"("]}})"),
              HasSubstr("out_of_bounds: the state takes more than 8 MiB"));
  EXPECT_EQ(status_, 413U);
  const std::string half(state_bytes_max / 2, 'x');
  call("keeper", "keep", R"({"text":")" + half + R"("})");
  call("keeper", "keep", R"({"text":")" + half + R"("})");
  EXPECT_THAT(refusal("GET", "/v1/servers/keeper/state"),
              HasSubstr("out_of_bounds: keeper: its state takes more than"));
  EXPECT_EQ(call("keeper", "keep", R"({"text":"c"})"), "5");
}

TEST_F(server_api_test, suspends_and_resumes) {
  EXPECT_EQ(ask("POST", "/v1/servers/keeper/suspend", R"({"timeout_ms":1000})").at("status").as_string(), "suspended");
  EXPECT_THAT(refusal("POST", "/v1/servers/keeper/suspend"), HasSubstr("busy: keeper is suspended"));
  EXPECT_EQ(state(), R"({"texts":["a","b"]})");
  EXPECT_EQ(call("keeper", "clear", "{}"), "null") << "it waits";
  EXPECT_EQ(state(), R"({"texts":["a","b"]})");
  EXPECT_EQ(ask("GET", "/v1/servers/keeper/status").at("queued").to_number<int>(), 1);
  ask("POST", "/v1/servers/keeper/resume");
  EXPECT_EQ(status_, 200U);
  EXPECT_TRUE(eventually([&] { return state() == R"({"texts":[]})"; }));
  EXPECT_THAT(refusal("POST", "/v1/servers/keeper/resume"), HasSubstr("refused: keeper is not suspended"));
}

TEST_F(server_api_test, traces_a_server_across_an_upgrade) {
  EXPECT_THAT(refusal("GET", "/v1/servers/keeper/trace"), HasSubstr("not_found: nobody watches"));
  const auto watched = ask("POST", "/v1/servers/keeper/watch", R"({"lasts_ms":60000})");
  EXPECT_TRUE(watched.at("watched").as_bool());
  call("keeper", "keep", R"({"text":"c"})");
  const auto report = box_->upgrade(make_release(version_2()), {});
  ASSERT_TRUE(report) << report.error().text();
  ASSERT_EQ(report->result, upgrade::phase::done);
  call("keeper", "keep", R"({"text":"d"})");
  call("keeper", "keep", R"({"text":"e"})");
  const auto page = ask("GET", "/v1/servers/keeper/trace", {}, {{"after", "1"}});
  EXPECT_TRUE(page.at("watching").as_bool());
  EXPECT_EQ(page.at("last").to_number<int>(), 3);
  ASSERT_EQ(page.at("events").as_array().size(), 2U);
  const auto& event = page.at("events").at(0);
  EXPECT_EQ(event.at("message").as_string(), "keep");
  EXPECT_EQ(event.at("kind").as_string(), "call");
  EXPECT_EQ(event.at("status").as_string(), "ok");
  EXPECT_EQ(ask("GET", "/v1/servers/keeper/status").at("handlers").at("count").to_number<int>(), 3);
  ASSERT_TRUE(box_->commit(std::chrono::seconds{5}));
  ask("POST", "/v1/servers/keeper/unwatch");
  EXPECT_EQ(status_, 200U);
  EXPECT_FALSE(ask("GET", "/v1/servers/keeper/trace").at("watching").as_bool());
  EXPECT_THAT(refusal("POST", "/v1/servers/keeper/unwatch"), HasSubstr("not_found"));
}

TEST_F(server_api_test, shows_the_trace_of_a_server_that_has_ended) {
  const auto ref = std::to_string(ask("POST", "/v1/servers/keeper/watch").at("ref").to_number<std::uint64_t>());
  call("keeper", "keep", R"({"text":"throw"})");
  const auto page = ask("GET", "/v1/servers/" + ref + "/trace");
  EXPECT_TRUE(page.at("ended").as_bool());
  EXPECT_EQ(page.at("why").as_string(), "the keeper was told to throw");
  EXPECT_EQ(page.at("events").at(0).at("status").as_string(), "server_failed");
}

TEST_F(server_api_test, records_what_a_connection_receives) {
  client user{port()};
  EXPECT_EQ(user.ask("echo x"), "x");
  std::string ref;
  const auto listed = ask("GET", "/v1/servers", {}, {{"type", "line.connection"}});
  ref = std::to_string(listed.at("servers").at(0).at("ref").to_number<std::uint64_t>());
  ask("POST", "/v1/servers/" + ref + "/watch");
  ASSERT_EQ(status_, 200U);
  EXPECT_EQ(user.ask("echo y"), "y");
  EXPECT_EQ(ask("GET", "/v1/servers/" + ref + "/trace").at("events").at(0).at("kind").as_string(), "data");
  EXPECT_TRUE(ask("GET", "/v1/servers/" + ref + "/state").at("state").is_object());
}

// Any request is answered with JSON, and the box goes on; what is not a good request changes nothing.
TEST_F(server_api_test, answers_any_request) {
  const char* const given = std::getenv("MOLT_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random{seed};
  const auto any = [&](std::initializer_list<const char*> of) { return std::string{of.begin()[random() % of.size()]}; };
  for (int i = 0; i < 3000; ++i) {
    std::string path = "/v1/servers" + any({"/keeper", "", "/", "/1", "/18446744073709551616", "/k/e", "/%", "//"}) +
                       any({"/state", "/status", "/trace", "/watch", "/unwatch", "/suspend", "/resume", "", "/", "/x"});
    std::string body =
        any({"", "{}", "[]", "{\"state\":{\"texts\":[]}}", "{\"state\":null}", "{\"state\":[[[[]]]]}",
             "{\"timeout_ms\":1}", "{\"timeout_ms\":-1}", "{\"lasts_ms\":1e300}", "{\"lasts_ms\":1}", "nul"});
    if (!body.empty() && random() % 4 == 0) body[random() % body.size()] = static_cast<char>(random());
    if (random() % 4 == 0) path[random() % path.size()] = static_cast<char>(random());
    std::vector<std::pair<std::string, std::string>> query;
    if (random() % 2 == 0)
      query.emplace_back(any({"after", "limit", "measure", "order", "type"}),
                         any({"", "0", "1", "-1", "18446744073709551615", "99999999999999999999", "true", "queued"}));
    const auto answered = answer(*box_, {any({"GET", "PUT", "POST", "DELETE", "HEAD", ""}), path, query, body});
    json::error_code bad;
    const auto parsed = json::parse(answered.body, bad);
    ASSERT_FALSE(bad) << path << ' ' << body << " -> " << answered.body;
    ASSERT_TRUE(parsed.is_object());
    ASSERT_EQ(answered.status >= 400, parsed.as_object().contains("error")) << answered.body;
  }
  static_cast<void>(answer(*box_, {"POST", "/v1/servers/keeper/resume", {}, ""}));
  ask("PUT", "/v1/servers/keeper/state", R"({"state":{"texts":[]}})");
  EXPECT_EQ(call("keeper", "keep", R"({"text":"a"})"), "1");
}

}  // namespace
}  // namespace molt::node
