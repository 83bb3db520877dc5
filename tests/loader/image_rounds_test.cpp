// A hundred rounds of two versions: both loaded, the older one used, its state brought to the other version, the older
// one unmapped, the newer one used and unmapped. By itself this checks what they answer and that they go; under
// valgrind, where the test loader_rounds_under_valgrind runs it, also that nothing of what is gone is touched and
// nothing is left behind.
//
// Without the look for holders (image_evidence.hpp): its copy reads memory that nobody has written, on purpose, and
// valgrind is there to complain of that.
#include "loader/plugin_image.hpp"

#include "tests/fixtures/counter/v1.hpp"
#include "tests/fixtures/counter/v2.hpp"
#include "tests/plugin/fake_host.hpp"

#include <gtest/gtest.h>
#include <fixture_paths.hpp>

#include <algorithm>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace molt::loader {
namespace {

constexpr int rounds = 100;

std::string text_of(const molt_text& text) { return {text.data, std::min<std::size_t>(text.size, MOLT_TEXT_CAPACITY)}; }

/// An object of a type that an image knows. The image must outlive it.
class object {
 public:
  explicit object(const molt_schema& of)
      : of_{of}, align_{of.align}, at_{::operator new (of.size, std::align_val_t{of.align})} {}
  object(const object&) = delete;
  object& operator=(const object&) = delete;
  ~object() {
    destroy();
    ::operator delete (at_, std::align_val_t{align_});
  }
  void destroy() {
    if (std::exchange(made_, false)) of_.destroy(at_);
  }

  /// What `make` returns says whether there is an object now.
  template <class Make>
  void make(Make make) {
    molt_text text{};
    const int status = make(at_, &text);
    made_ = status == MOLT_OK;
    EXPECT_TRUE(made_) << status << ": " << text_of(text);
  }
  [[nodiscard]] void* get() const { return at_; }
  [[nodiscard]] const molt_schema& schema() const { return of_; }

 private:
  const molt_schema& of_;
  std::size_t align_;
  void* at_;
  bool made_ = false;
};

/// The bytes of an archive.
struct archive : molt_sink {
  archive() : molt_sink{nullptr, nullptr, &more} {}
  static int more(molt_sink* self, std::size_t wanted) {
    auto& own = *static_cast<archive*>(self);
    const std::size_t used = own.size();
    own.bytes.resize((used + wanted) * 2);
    own.cursor = own.bytes.data() + used;
    own.end = own.bytes.data() + own.bytes.size();
    return MOLT_OK;
  }
  [[nodiscard]] std::size_t size() const {
    return cursor == nullptr ? 0 : static_cast<std::size_t>(cursor - bytes.data());
  }
  std::vector<char> bytes;
};

const molt_server_type& only_type(const lease& image) { return image->server_type(0); }

/// Starts a server of the image's only type.
void begin(const lease& image, object& state) {
  tests::fake_host host;
  const molt_arguments none{nullptr, 0};
  state.make([&](void* at, molt_text* text) { return only_type(image).init(host.abi(), &none, at, text); });
}

template <class Reply, class Payload>
Reply call(const lease& image, const object& state, std::string_view message, Payload payload) {
  tests::fake_host host;
  const auto& type = only_type(image);
  for (std::uint32_t i = 0; i < type.handler_count; ++i) {
    const auto& handler = type.handlers[i];
    if (handler.message->name != message) continue;
    EXPECT_EQ(handler.message->payload->size, sizeof(Payload));
    object reply{*handler.message->reply};
    reply.make([&](void* at, molt_text* text) { return handler.handle(host.abi(), state.get(), &payload, at, text); });
    return *static_cast<const Reply*>(reply.get());
  }
  ADD_FAILURE() << "nothing handles " << message;
  return {};
}

/// Through the hook of `newer` from one to the other.
void bring_by_hook(const lease& newer, const object& from, object& to) {
  const auto& type = only_type(newer);
  for (std::uint32_t i = 0; i < type.state_edge_count; ++i) {
    const auto& edge = type.state_edges[i];
    if (edge.from->fingerprint != from.schema().fingerprint || edge.to->fingerprint != to.schema().fingerprint)
      continue;
    const molt_change change{"", "", {nullptr, 0}, nullptr, nullptr};
    return to.make([&](void* at, molt_text* text) { return edge.apply(from.get(), at, &change, text); });
  }
  ADD_FAILURE() << "no hook of " << newer->version() << " leads there";
}

/// Written by one image, read by the other.
void bring_by_archive(const object& from, object& to) {
  archive written;
  molt_text text{};
  ASSERT_EQ(from.schema().save(from.get(), &written, &text), MOLT_OK) << text_of(text);
  molt_source source{written.bytes.data(), written.bytes.data() + written.size()};
  to.make([&](void* at, molt_text* why) { return to.schema().load(at, &source, why); });
}

lease loaded(const char* path) {
  auto image = load(path);
  EXPECT_TRUE(image) << image.error().text();
  return image ? *image : lease{};
}

void expect_unmapped(const result<unload_report>& report) {
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(report->unmapped, unmaps_images()) << report->why;
}

/// As it goes in a node, where nobody was found to point into it.
void let_go(lease image) {
  if (!unmaps_images()) return expect_unmapped(unload(image));
  const auto armed = arm_tripwire(image);
  ASSERT_TRUE(armed) << armed.error().text();
  expect_unmapped(unload_untouched(image));
}

std::int64_t add(const lease& counter, const object& state, std::int64_t by) {
  return counter->version() == "1.0.0"
             ? call<std::int64_t>(counter, state, "add", counter::v1::add{by})
             : call<std::int64_t>(counter, state, "add", counter::v2::add{by, std::string(40, 'w')});
}

/// By hooks: the newer version has those of both directions.
void bring_a_counter(const char* from_path, const char* to_path) {
  lease from = loaded(from_path);
  lease to = loaded(to_path);
  ASSERT_TRUE(from && to);
  object after{*only_type(to).state};
  {
    object before{*only_type(from).state};
    begin(from, before);
    EXPECT_EQ(add(from, before, 3), 3);
    bring_by_hook(from->version() == "1.0.0" ? to : from, before, after);
  }
  expect_unmapped(unload(from));
  EXPECT_EQ(add(to, after, 4), 7);
  after.destroy();
  let_go(std::move(to));
}

/// A state with objects whose code is the image's.
void bring_shared_lines() {
  struct append {
    std::string line;
  };
  struct last {};
  lease from = loaded(fixtures::shared_1_0_0);
  lease to = loaded(fixtures::shared_2_0_0);
  ASSERT_TRUE(from && to);
  const std::string line(60, 'l');
  object after{*only_type(to).state};
  {
    object before{*only_type(from).state};
    begin(from, before);
    EXPECT_EQ(call<std::uint64_t>(from, before, "append", append{line}), 1U);
    bring_by_archive(before, after);
  }
  expect_unmapped(unload(from));
  EXPECT_EQ(call<std::string>(to, after, "last", last{}), line);
  after.destroy();
  let_go(std::move(to));
}

TEST(image_rounds, bring_states_from_version_to_version_while_images_come_and_go) {
  for (int round = 0; round < rounds && !::testing::Test::HasFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    if (round % 3 == 0) bring_a_counter(fixtures::counter_1_0_0, fixtures::counter_2_0_0);
    if (round % 3 == 1) bring_a_counter(fixtures::counter_2_0_0, fixtures::counter_1_0_0);
    if (round % 3 == 2) bring_shared_lines();
  }
}

}  // namespace
}  // namespace molt::loader
