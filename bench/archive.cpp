// How fast a state of 1,000,000 map entries becomes an archive and a state again, beside Boost's binary archive, which
// has the same entries and as good a buffer. Both write into memory that they have had before; both are counted by the
// bytes of the entries themselves.
//
//   molt_bench_archive     prints {"results": [...]} on stdout
#include "bench/messaging/measure.hpp"
#include "plugin/molt/plugin.hpp"
#include "state_migration/archive_buffer.hpp"

#include <boost/archive/binary_iarchive.hpp>
#include <boost/archive/binary_oarchive.hpp>
#include <boost/serialization/string.hpp>
#include <boost/serialization/unordered_map.hpp>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <streambuf>
#include <string>
#include <unordered_map>
#include <vector>

namespace sessions {

struct session {
  std::string user;
  std::int64_t hits = 0;
  std::int64_t last_seen = 0;
};
struct state {
  std::unordered_map<std::uint64_t, session> live;
};

}  // namespace sessions

BOOST_CLASS_IMPLEMENTATION(sessions::session, boost::serialization::object_serializable)
BOOST_CLASS_TRACKING(sessions::session, boost::serialization::track_never)

namespace boost::serialization {

template <class Archive>
void serialize(Archive& archive, sessions::session& each, unsigned) {
  archive& each.user& each.hits& each.last_seen;
}

}  // namespace boost::serialization

namespace {

using clock_type = std::chrono::steady_clock;
using binary_out = boost::archive::binary_oarchive;
using binary_in = boost::archive::binary_iarchive;
constexpr unsigned boost_flags = boost::archive::no_header | boost::archive::no_codecvt | boost::archive::no_tracking;

/// Writes into, or reads from, memory that is there.
class memory_buffer : public std::streambuf {
 public:
  memory_buffer(char* begin, char* end) {
    setp(begin, end);
    setg(begin, begin, end);
  }
  [[nodiscard]] std::size_t written() const { return static_cast<std::size_t>(pptr() - pbase()); }
};

sessions::state filled(std::int64_t count) {
  sessions::state made;
  made.live.reserve(static_cast<std::size_t>(count));
  for (std::int64_t id = 0; id < count; ++id)
    made.live[static_cast<std::uint64_t>(id)] = {"user-" + std::to_string(id), id, id + 1};
  return made;
}

std::int64_t bytes_of(const sessions::state& given) {
  std::int64_t bytes = 0;
  for (const auto& [id, each] : given.live)
    bytes += static_cast<std::int64_t>(sizeof id + each.user.size() + sizeof each.hits + sizeof each.last_seen);
  return bytes;
}

void must(bool held, const char* what) {
  if (held) return;
  std::fprintf(stderr, "archive: %s\n", what);
  std::exit(1);
}

bool same(const sessions::state& a, const sessions::state& b) {
  if (a.live.size() != b.live.size()) return false;
  for (const auto& [id, each] : a.live) {
    const auto other = b.live.find(id);
    if (other == b.live.end() || other->second.user != each.user || other->second.hits != each.hits) return false;
  }
  return true;
}

template <class Work>
double seconds_of(Work work) {
  const auto begun = clock_type::now();
  work();
  return std::chrono::duration<double>(clock_type::now() - begun).count();
}

}  // namespace

int main() {
  const auto state = filled(measuring::scaled(1'000'000));
  const auto bytes = bytes_of(state);
  const molt_schema& schema = molt::schema_of<sessions::state>();

  molt::migration::archive_buffer buffer;
  const auto save = [&](std::int64_t) {
    return seconds_of([&] {
      molt_text error{};
      must(buffer.save(schema, &state, error) == MOLT_OK, "molt could not save");
    });
  };
  const auto load = [&](std::int64_t) {
    alignas(sessions::state) std::byte storage[sizeof(sessions::state)];
    double took = seconds_of([&] {
      molt_text error{};
      must(molt::migration::load_all(schema, buffer.bytes(), storage, error) == MOLT_OK, "molt could not load");
    });
    auto* const made = std::launder(reinterpret_cast<sessions::state*>(storage));
    must(same(state, *made), "molt loaded another state");
    schema.destroy(made);
    return took;
  };

  std::vector<char> room(static_cast<std::size_t>(bytes) * 3 + 4096);
  std::size_t written = 0;
  const auto boost_save = [&](std::int64_t) {
    return seconds_of([&] {
      memory_buffer to{room.data(), room.data() + room.size()};
      binary_out archive{to, boost_flags};
      archive << state.live;
      written = to.written();
    });
  };
  const auto boost_load = [&](std::int64_t) {
    auto made = std::make_unique<sessions::state>();
    const double took = seconds_of([&] {
      memory_buffer from{room.data(), room.data() + written};
      binary_in archive{from, boost_flags};
      archive >> made->live;
    });
    must(same(state, *made), "Boost loaded another state");
    return took;
  };

  save(0);
  boost_save(0);
  measuring::print(stdout, {measuring::measure("archive.save", measuring::unit::mb_per_second, 9,
                                               {{"", {bytes, save}}, {"boost", {bytes, boost_save}}}),
                            measuring::measure("archive.load", measuring::unit::mb_per_second, 9,
                                               {{"", {bytes, load}}, {"boost", {bytes, boost_load}}})});
  return 0;
}
