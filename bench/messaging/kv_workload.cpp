// One GET of kv's store, through molt and behind a mutex: the same handler on the same keys.
#include "bench/messaging/workloads.hpp"
#include "examples/kv/1.0.0/keyspace.hpp"
#include "examples/kv/common/interpreter.hpp"

#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <string>

namespace {

constexpr std::int64_t keys = 10'000;

struct store : molt::server<kv::state> {
  kv::executed handle_call(molt::context&, const kv::execute& batch) {
    kv::keyspace held{self()};
    return kv::run_batch(held, batch);
  }
};

kv::execute batch_of(std::initializer_list<std::string> words) {
  kv::execute made;
  made.layout.push_back(static_cast<std::uint32_t>(words.size()));
  for (const auto& each : words) {
    made.text += each;
    made.layout.push_back(static_cast<std::uint32_t>(each.size()));
  }
  return made;
}

std::string key(std::int64_t number) { return "key:" + std::to_string(number); }
constexpr const char* value = "xxxxxxxxxxxxxxxx";
constexpr const char* expected = "$16\r\nxxxxxxxxxxxxxxxx\r\n";

std::vector<kv::execute> gets() {
  std::vector<kv::execute> made;
  for (std::int64_t i = 0; i < 1'000; ++i) made.push_back(batch_of({"GET", key(i * 7919 % keys)}));
  return made;
}

}  // namespace

struct molt_side::kv_reader::parts {
  node on{1, molt::server_type_of<store, "kv">()};
  molt_ref server = on.start();
  std::vector<kv::execute> batches = gets();

  bool answers(kv::execute& batch, const char* expected) {
    alignas(kv::executed) unsigned char storage[sizeof(kv::executed)];
    if (on.on.call(server, molt::message_of<kv::execute>(), &batch, storage) != MOLT_OK) std::abort();
    auto* const answer = std::launder(reinterpret_cast<kv::executed*>(storage));
    const bool equal = answer->replies == expected;
    std::destroy_at(answer);
    return equal;
  }
};

struct mutex_side::kv_reader::parts {
  std::mutex mutex;
  kv::state state;
  std::vector<kv::execute> batches = gets();

  bool answers(const kv::execute& batch, const char* expected) { return execute(batch).replies == expected; }

 private:
  kv::executed execute(const kv::execute& batch) {
    const std::lock_guard lock{mutex};
    kv::keyspace held{state};
    return kv::run_batch(held, batch);
  }
};

namespace {

template <class Parts>
void fill(Parts& parts) {
  for (std::int64_t i = 0; i < keys; ++i) {
    kv::execute batch = batch_of({"SET", key(i), value});
    if (!parts.answers(batch, "+OK\r\n")) std::abort();
  }
}

template <class Parts>
double read(Parts& parts, std::int64_t count) {
  std::size_t next = 0;
  const auto begin = molt_side::clock::now();
  for (std::int64_t i = 0; i < count; ++i) {
    if (!parts.answers(parts.batches[next], expected)) std::abort();
    if (++next == parts.batches.size()) next = 0;
  }
  return molt_side::since(begin);
}

}  // namespace

molt_side::kv_reader::kv_reader() : parts_{std::make_unique<parts>()} { fill(*parts_); }
molt_side::kv_reader::~kv_reader() = default;
double molt_side::kv_reader::operator()(std::int64_t count) { return read(*parts_, count); }

mutex_side::kv_reader::kv_reader() : parts_{std::make_unique<parts>()} { fill(*parts_); }
mutex_side::kv_reader::~kv_reader() = default;
double mutex_side::kv_reader::operator()(std::int64_t count) { return read(*parts_, count); }
