#include "base/durable_file.hpp"
#include "base/unique_fd.hpp"
#include "node/crash_folder.hpp"
#include "node/crash_raw.hpp"
#include "node/crash_report.hpp"
#include "node/crash_reporter.hpp"
#include "node/memory_map.hpp"
#include "node/symbolizer.hpp"
#include "tests/base/scratch_folder.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <boost/json.hpp>

#include <string>
#include <utility>
#include <vector>

namespace molt::node {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using testing::HasSubstr;
using testing::Not;
using testing::SizeIs;
using tests::scratch_folder;

const std::string raw_text =
    "molt-crash 1\n"
    "signal 11 1 10 7f0000001010\n"
    "time 1795281332 5000000\n"
    "process 41 43 pool%201\n"
    "release kv-1.0.0\n"
    "folder -\n"
    "server 4294967296 2 7 kv.store 1.0.0 %2d\n"
    "recorded\n"
    "last 1795281331000000000 1500 call 0 get\n"
    "last 1795281332000000000 2500000 cast 3 put%20it\n"
    "handler 7f0000001000 set\n"
    "frame 7f0000001010\n"
    "omitted 9\n"
    "frame 7f0000001040\n"
    "frames-by unwinder\n"
    "image 7f0000000000 7f0000002000 0 00ff /memfd:kv.so\n"
    "end\n";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

TEST(crash_raw, reads_what_the_signal_handler_wrote) {
  const auto raw = parse_crash_raw(raw_text);
  ASSERT_TRUE(raw) << raw.error().text();
  EXPECT_EQ(raw->signal, 11);
  EXPECT_EQ(raw->address, 0x10U);
  EXPECT_EQ(raw->thread_name, "pool 1");
  ASSERT_EQ(raw->servers.size(), 1U);
  EXPECT_EQ(raw->servers[0].name, "-");
  EXPECT_EQ(raw->servers[0].handlers.at(0).message, "set");
  EXPECT_EQ(raw->omitted_at, 1U);
  EXPECT_TRUE(raw->complete);
  const auto text = text_of_report(report_of(*raw, {}));
  EXPECT_THAT(text, HasSubstr("SIGSEGV at address 0x10"));
  EXPECT_THAT(text, HasSubstr("- (kv.store 1.0.0, reference 4294967296)"));
  EXPECT_THAT(text, HasSubstr("set (probably)")) << "without symbols, by the nearest function";
  EXPECT_THAT(text, HasSubstr("9 frames left out"));
  EXPECT_THAT(text, HasSubstr("  call  get  ok  1.5 us\n"));
  EXPECT_THAT(text, HasSubstr("  cast  put it  "));
  EXPECT_THAT(text, HasSubstr("  2.5 ms\n"));
  EXPECT_THAT(text, HasSubstr("memfd:kv.so + 0x1010"));
}

TEST(crash_raw, takes_the_whole_lines_of_a_cut_file_and_says_so) {
  const auto begin = raw_text.find("time ");
  for (std::size_t size = 0; size < raw_text.size(); ++size) {
    const auto raw = parse_crash_raw(std::string_view{raw_text}.substr(0, size));
    ASSERT_EQ(raw.has_value(), size >= begin) << size;
    if (!raw) continue;
    ASSERT_FALSE(raw->complete);
    EXPECT_THAT(text_of_report(report_of(*raw, {})), HasSubstr("died before this report was whole"));
  }
}

TEST(crash_raw, refuses_what_no_handler_writes_and_names_the_line) {
  const std::vector<std::pair<std::string, std::string>> hostile{
      {"molt-crash 1", "molt-crash 2"},
      {"signal 11", "signal 0"},
      {"signal 11", "signal 999"},
      {"signal 11 1 10", "signal 11 1 zz"},
      {"time 1795281332", "time -1"},
      {"time 1795281332", "time 99999999999999"},
      {"pool%201", "pool%2"},
      {"pool%201", "pool%zz"},
      {"server 4294967296", "server -1"},
      {"handler 7f0000001000", "handler 123456789abcdef01"},
      {"recorded\n", ""},
      {"recorded\n", "recorded 1\n"},
      {"last 1795281331000000000", "last -1"},
      {"1500 call", "1500 shout"},
      {"frame 7f0000001010", "frame"},
      {"frame 7f0000001010", "frame 1 2"},
      {"frames-by unwinder", "frames-by"},
      {"7f0000000000 7f0000002000", "7f0000002000 7f0000000000"},
      {"00ff", "00FF"},
      {"end\n", "end\nframe 1\n"},
      {"release", "unknown"},
  };
  for (const auto& [from, to] : hostile) {
    const auto raw = parse_crash_raw(replaced(raw_text, from, to));
    ASSERT_FALSE(raw) << to;
    EXPECT_EQ(raw.error().why(), reason::corrupt) << to;
    EXPECT_THAT(raw.error().message(), testing::StartsWith("line ")) << to;
  }
  std::string frames = raw_text.substr(0, raw_text.find("frame "));
  for (std::size_t i = 0; i <= crash_raw_frames_max; ++i) frames += "frame 1\n";
  EXPECT_FALSE(parse_crash_raw(frames));
  EXPECT_EQ(parse_crash_raw(std::string(crash_raw_size_max + 1, 'x')).error().why(), reason::out_of_bounds);
}

TEST(memory_map, does_not_fault_where_nothing_is) {
  char byte = 0;
  EXPECT_FALSE(read_memory(16, &byte, 1));
  const char there = 'x';
  EXPECT_TRUE(read_memory(reinterpret_cast<std::uint64_t>(&there), &byte, 1));
  EXPECT_EQ(byte, 'x');
}

TEST(symbolizer, names_a_function_of_this_program) {
  symbolizer symbols{images_of_this_process(), {}};
  const auto place = symbols.place(reinterpret_cast<std::uint64_t>(&parse_crash_raw), false);
  EXPECT_THAT(place.symbol, HasSubstr("molt::node::parse_crash_raw"));
  EXPECT_EQ(place.symbol_offset, 0U);
  EXPECT_EQ(symbols.place(16, false).image, "");
}

class crash_folder_test : public testing::Test {
 protected:
  void write(const std::string& id, std::size_t size = 10) {
    ASSERT_TRUE(folder.write(id, json::object{{"kind", "exception"}, {"what", std::string(size, 'x')}}));
  }
  std::vector<std::string> ids() {
    std::vector<std::string> all;
    const auto found = folder.list();
    if (found)
      for (const auto& each : *found) all.emplace_back(each.at("id").as_string().c_str());
    return all;
  }
  std::vector<std::string> take() {
    return folder.take_raw_reports({}, [this](const error& why) { complaints.push_back(why.text()); });
  }

  scratch_folder scratch;
  crash_folder folder{scratch / "crashes", {3, 4000}};
  std::vector<std::string> complaints;
};

TEST_F(crash_folder_test, keeps_the_newest_within_its_bounds) {
  EXPECT_TRUE(ids().empty());
  for (const char* const id : {"20260101t1-1", "20260101t1-2", "20260101t1-3", "20260101t1-4"}) write(id);
  EXPECT_EQ(ids(), (std::vector<std::string>{"20260101t1-4", "20260101t1-3", "20260101t1-2"}));
  write("20260101t1-5", 3850);
  EXPECT_EQ(ids(), (std::vector<std::string>{"20260101t1-5", "20260101t1-4"})) << "the bytes of all are bounded too";
  EXPECT_EQ(folder.write("20260101t1-6", json::object{{"what", std::string(crash_report_size_max, 'x')}}).error().why(),
            reason::out_of_bounds);
}

TEST_F(crash_folder_test, finds_a_report_by_its_beginning_or_as_the_latest) {
  EXPECT_EQ(folder.read("latest").error().why(), reason::not_found);
  write("20260101t1-1");
  write("20260101t2-1");
  EXPECT_EQ(folder.read("20260101t1")->at("id").as_string(), "20260101t1-1");
  EXPECT_EQ(folder.read("latest")->at("id").as_string(), "20260101t2-1");
  EXPECT_EQ(folder.read("20260101").error().why(), reason::invalid_argument);
  EXPECT_EQ(folder.read("../20260101t1-1").error().why(), reason::not_found);
  EXPECT_EQ(folder.read("").error().why(), reason::not_found);
}

TEST_F(crash_folder_test, makes_a_report_of_what_a_dead_node_left) {
  fs::create_directories(folder.path());
  tests::write_file(folder.path() / "node-1-1.raw", raw_text);
  const auto made = take();
  ASSERT_THAT(made, SizeIs(1));
  EXPECT_THAT(complaints, SizeIs(0));
  EXPECT_EQ(folder.read(made.front())->at("server").at("type").as_string(), "kv.store");
  EXPECT_FALSE(fs::exists(folder.path() / "node-1-1.raw"));
  EXPECT_THAT(take(), SizeIs(0));
}

TEST_F(crash_folder_test, leaves_a_living_nodes_file_alone_and_removes_that_of_one_that_ended_well) {
  fs::create_directories(folder.path());
  const auto living = folder.path() / "node-1-1.raw";
  const auto ended = folder.path() / "node-2-1.raw";
  tests::write_file(living, raw_text);
  tests::write_file(ended, "");
  const unique_fd lock{::open(living.c_str(), O_RDONLY | O_CLOEXEC)};
  ASSERT_EQ(::flock(lock.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_THAT(take(), SizeIs(0));
  EXPECT_TRUE(fs::exists(living));
  EXPECT_FALSE(fs::exists(ended));
}

TEST_F(crash_folder_test, refuses_a_damaged_file_once_and_keeps_it) {
  fs::create_directories(folder.path());
  tests::write_file(folder.path() / "node-1-1.raw", "molt-crash 1\nsignal 11 1 zz 0\n");
  tests::write_file(folder.path() / "node-2-1.raw", std::string(crash_raw_size_max + 1, 'x'));
  EXPECT_THAT(take(), SizeIs(0));
  EXPECT_THAT(complaints, SizeIs(2));
  EXPECT_TRUE(fs::exists(folder.path() / "node-1-1.refused"));
  EXPECT_THAT(take(), SizeIs(0));
  EXPECT_THAT(complaints, SizeIs(2));
}

TEST_F(crash_folder_test, shows_that_a_report_cannot_be_read) {
  write("20260101t1-1");
  tests::write_file(folder.path() / "20260101t1-1.json", "{");
  EXPECT_THAT(ids(), SizeIs(1));
  EXPECT_EQ(folder.read("latest").error().why(), reason::corrupt);
}

TEST(crash_reporter, writes_one_report_for_a_storm_of_failures_and_counts_the_rest) {
  const scratch_folder scratch;
  servers::server_failure told;
  told.name = "counter";
  told.ref = {1};
  told.why = "ouch";
  told.in = "add";
  {
    crash_reporter reporter{
        {scratch / "crashes", [](const std::string&) { return molt_ref{2}; }, [](int, std::string_view) {}}};
    reporter.note_release("box-1.0.0", {});
    for (int i = 0; i < 1000; ++i) reporter.note(told);
    told.name = "other";
    reporter.note(told);
  }
  const auto reports = crash_folder{scratch / "crashes"}.list();
  ASSERT_TRUE(reports);
  std::uint64_t failures = 0;
  for (const auto& each : *reports) {
    const auto report = crash_folder{scratch / "crashes"}.read(each.at("id").as_string());
    failures += 1 + report->at("repeated").to_number<std::uint64_t>();
    EXPECT_EQ(report->at("release").as_string(), "box-1.0.0");
  }
  EXPECT_EQ(failures, 1001U);
  EXPECT_GE(reports->size(), 2U);
  EXPECT_LE(reports->size(), 12U) << "one for each server and second, however slow the machine";
}

TEST(crash_reporter, goes_on_where_nothing_can_be_written) {
  const scratch_folder scratch;
  tests::write_file(scratch / "crashes", "a file where the folder should be");
  std::string logged;
  servers::server_failure told;
  told.name = "counter";
  {
    crash_reporter reporter{{scratch / "crashes", [](const std::string&) { return molt_ref{}; },
                             [&](int, std::string_view text) { logged += text; }}};
    reporter.note(told);
  }
  EXPECT_THAT(logged, HasSubstr("cannot be written"));
}

}  // namespace
}  // namespace molt::node
