#include "releases/inspection_policy.hpp"

#include <gmock/gmock.h>

namespace molt::releases {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

loader::finding finding_of(loader::finding_kind kind, loader::severity level, std::string subject,
                           std::string name = {}) {
  return {kind, level, "text", "hint", std::move(subject), std::move(name)};
}
const auto tally =
    finding_of(loader::finding_kind::static_data, loader::severity::note, "_ZN5tally5countE", "tally::count");

void expect_wrong(std::string_view text, const std::string& said) {
  const auto policy = inspection_policy::parse(text, "p.toml");
  ASSERT_FALSE(policy) << text;
  EXPECT_EQ(policy.error().why(), reason::invalid_argument);
  EXPECT_THAT(policy.error().message(), HasSubstr("p.toml"));
  EXPECT_THAT(policy.error().message(), HasSubstr(said));
}

TEST(inspection_policy, allows_by_code_symbol_and_file_with_a_reason) {
  auto policy = inspection_policy::parse(R"(
[[allow]]
code = "static_data"
symbol = "tally::*"
file = "libtally-*.so"
reason = "counts for a test"
)",
                                         "p.toml");
  ASSERT_TRUE(policy) << policy.error().text();
  const auto* why = policy->allows("/x/libtally-1.0.0.so", tally);
  ASSERT_NE(why, nullptr);
  EXPECT_EQ(*why, "counts for a test");
  EXPECT_EQ(policy->allows("/x/libother.so", tally), nullptr);
  EXPECT_EQ(policy->allows("/x/libtally-1.0.0.so",
                           finding_of(loader::finding_kind::static_data, loader::severity::note, "other")),
            nullptr);
  EXPECT_EQ(policy->allows("/x/libtally-1.0.0.so",
                           finding_of(loader::finding_kind::loads_code, loader::severity::warn, "tally::x")),
            nullptr);
  EXPECT_TRUE(policy->unused().empty());
}

TEST(inspection_policy, names_allowances_that_nothing_meets) {
  auto policy = inspection_policy::parse(R"([[allow]]
code = "static_data"
symbol = "_ZN5tally*"
reason = "r"
[[allow]]
code = "loads_code"
symbol = "dlopen"
file = "libx.so"
reason = "r"
)",
                                         "p.toml");
  ASSERT_TRUE(policy);
  EXPECT_NE(policy->allows("liby.so", tally), nullptr);
  EXPECT_THAT(policy->unused(), ElementsAre("p.toml:5: allows loads_code of dlopen in libx.so, and nothing has it"));
}

TEST(inspection_policy, cannot_allow_what_a_node_refuses) {
  expect_wrong("[[allow]]\ncode = \"unique_symbol\"\nreason = \"no harm\"\n",
               "unique_symbol cannot be allowed, a node refuses");
  auto policy = inspection_policy::parse("[[allow]]\ncode = \"thread_key\"\nreason = \"deleted\"\n", "p.toml");
  ASSERT_TRUE(policy);
  const auto kind = loader::finding_kind::thread_key;
  EXPECT_EQ(policy->allows("x.so", finding_of(kind, loader::severity::refuse, "pthread_key_create")), nullptr);
  EXPECT_NE(policy->allows("x.so", finding_of(kind, loader::severity::warn, "pthread_key_create")), nullptr);
}

TEST(inspection_policy, is_refused_where_it_is_wrong) {
  expect_wrong("[[allow]]\ncode = \"static_data\"\n", "\"reason\" is missing");
  expect_wrong("[[allow]]\ncode = \"static_data\"\nreason = \" \"\n", "must say why");
  expect_wrong("[[allow]]\nreason = \"r\"\n", "\"code\" is missing");
  expect_wrong("[[allow]]\ncode = \"statics\"\nreason = \"r\"\n", "no finding \"statics\"");
  expect_wrong("[[allow]]\ncode = \"static_data\"\nreason = \"r\"\nsymbols = \"x\"\n", "did you mean \"symbol\"");
  expect_wrong("[[allowed]]\n", "unknown key \"allowed\"");
  expect_wrong("allow = 1\n", "array of tables");
  expect_wrong("[[allow]\n", "p.toml:1");
}

TEST(inspection_policy, is_read_from_a_file) {
  const auto policy = inspection_policy::read("/nowhere/p.toml");
  ASSERT_FALSE(policy);
  EXPECT_THAT(policy.error().message(), HasSubstr("/nowhere/p.toml"));
}

TEST(inspection_policy, has_patterns_of_stars_and_question_marks) {
  EXPECT_TRUE(matches("a*c", "abbc"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("a?c*", "abc"));
  EXPECT_TRUE(matches("std::vector<int>::operator[]", "std::vector<int>::operator[]"));
  EXPECT_TRUE(matches("*ab*ab", "aababbab"));
  EXPECT_FALSE(matches("a*c", "abb"));
  EXPECT_FALSE(matches("", "a"));
  EXPECT_FALSE(matches("a?", "a"));
}

}  // namespace
}  // namespace molt::releases
