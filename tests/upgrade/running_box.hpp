// A runtime with a switcher, and clients that speak one version's messages, whatever version answers.
#pragma once

#include "plugin/storage.hpp"
#include "server/runtime.hpp"
#include "upgrade/transaction.hpp"

#include <gtest/gtest.h>
#include <fixture_paths.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace molt::upgrade {

inline constexpr const char* ledger_1 = PLUGIN_FOLDER "/libledger-1.0.0.so";
inline constexpr const char* ledger_2 = PLUGIN_FOLDER "/libledger-2.0.0.so";
inline constexpr const char* ledger_2_one_way = PLUGIN_FOLDER "/libledger-2.1.0.so";

inline constexpr const char* hoard_1 = PLUGIN_FOLDER "/libhoard-1.0.0.so";
inline constexpr const char* hoard_2 = PLUGIN_FOLDER "/libhoard-2.0.0.so";
inline constexpr const char* hoard_3 = PLUGIN_FOLDER "/libhoard-3.0.0.so";

/// How often a stress goes round: less under sanitizers.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
inline constexpr int stress = 1;
inline constexpr bool unloads = false;  // the loader keeps images mapped for the sanitizer's reports
#else
inline constexpr int stress = 4;
inline constexpr bool unloads = true;
#endif

inline release_content load(const char* file) {
  const std::vector<loader::plugin_file> files{file};
  auto loaded = load_release("", files);
  if (!loaded) {
    ADD_FAILURE() << loaded.error().text();
    return {};
  }
  const auto& plugin = loaded->plugins.at(0)->description();
  loaded->id = plugin.name + "-" + plugin.version;
  return std::move(*loaded);
}

/// A message of one loaded plugin's type, sent with its payload made in place.
class client {
 public:
  client(servers::runtime& runtime, const release_content& speaks)
      : runtime_{&runtime}, plugin_{speaks.plugins.at(0)} {}

  /// `Reply` is what the message's reply is in C++. The payload's members must fit `Payload` in layout.
  template <class Reply, class Payload>
  std::pair<int, Reply> call(molt_ref to, const char* message, Payload payload) const {
    const auto& sent = message_of(message);
    EXPECT_EQ(sent.payload->size, sizeof payload);
    alignas(Reply) unsigned char storage[sizeof(Reply)];
    const int status = runtime_->call(to, sent, &payload, storage, std::chrono::seconds{30});
    if (status != MOLT_OK) return {status, Reply{}};
    auto* const made = std::launder(reinterpret_cast<Reply*>(storage));
    std::pair<int, Reply> result{status, std::move(*made)};
    sent.reply->destroy(storage);
    return result;
  }
  template <class Payload>
  int cast(molt_ref to, const char* message, Payload payload) const {
    return runtime_->cast(to, message_of(message), &payload);
  }

  struct nothing {};
  struct v1_add {
    std::int64_t by;
  };
  struct v2_add {
    std::int64_t by;
    std::string who;
  };

  std::int64_t get(molt_ref to) const { return must(call<std::int64_t>(to, "get", nothing{})); }
  std::int64_t sum(molt_ref to) const { return must(call<std::int64_t>(to, "sum", nothing{})); }
  std::string version(molt_ref to) const { return must(call<std::string>(to, "version", nothing{})); }
  std::string title(molt_ref to) const { return must(call<std::string>(to, "title", nothing{})); }
  std::int64_t add(molt_ref to, std::int64_t by) const { return must(try_add(to, by)); }
  std::pair<int, std::int64_t> try_add(molt_ref to, std::int64_t by) const {
    if (message_of("add").payload->size == sizeof(v1_add)) return call<std::int64_t>(to, "add", v1_add{by});
    return call<std::int64_t>(to, "add", v2_add{by, "somebody with a name that is long"});
  }

 private:
  [[nodiscard]] const molt_message& message_of(const char* name) const {
    return *plugin_->types().at(0)->find(std::string_view{name})->message;
  }
  template <class Reply>
  static Reply must(std::pair<int, Reply> result) {
    EXPECT_EQ(result.first, MOLT_OK);
    return result.second;
  }

  servers::runtime* runtime_;
  std::shared_ptr<const loaded_plugin> plugin_;
};

/// The state of a server as its archive, to the byte.
inline std::string archive_of(servers::runtime& runtime, molt_ref wanted) {
  auto guard = runtime.rest(std::chrono::seconds{10});
  EXPECT_TRUE(guard);
  std::string bytes;
  runtime.for_each(*guard, 0, 1, [&](servers::resting_server& server) {
    if (server.ref().bits != wanted.bits) return;
    migration::archive_buffer buffer;
    molt_text text;
    EXPECT_EQ(buffer.save(*server.type().abi().state, server.state(), text), MOLT_OK);
    bytes = buffer.bytes();
  });
  return bytes;
}

class running_box : public testing::Test {
 protected:
  void start(const char* file) {
    switcher_.emplace(runtime_);
    switcher_->start(load(file));
  }
  molt_ref server(const char* type, const std::string& name, servers::arguments arguments = {}) {
    const auto started = runtime_.start(type, name, arguments);
    EXPECT_TRUE(started) << (started ? "" : started.error().text());
    return started ? *started : molt_ref{};
  }
  std::vector<molt_ref> counters(int count) {
    std::vector<molt_ref> all;
    for (int n = 0; n < count; ++n)
      all.push_back(server("counter.server", "counter " + std::to_string(n), {{"start", std::to_string(n)}}));
    return all;
  }
  report upgrade(const char* file, const settings& chosen = {}) {
    auto done = switcher_->upgrade(load(file), chosen);
    EXPECT_TRUE(done) << (done ? "" : done.error().text());
    return done ? std::move(*done) : report{};
  }
  report rollback(const settings& chosen = {}) {
    auto done = switcher_->rollback(chosen);
    EXPECT_TRUE(done) << (done ? "" : done.error().text());
    return done ? std::move(*done) : report{};
  }
  client speaking(const char* file) { return {runtime_, load(file)}; }

  servers::runtime runtime_{[] {
    servers::options made;
    made.pool_threads = 2;
    made.expected_name_wait = std::chrono::seconds{30};  // the machine may be busy
    return made;
  }()};
  std::optional<switcher> switcher_;
};

inline std::string told(const report& done) {
  std::string text = std::string{to_string(done.result)} + ";";
  for (const auto& problem : done.problems) text += " " + problem + ";";
  for (const auto& failure : done.failures) text += " " + failure.server + ": " + failure.error + ";";
  return text;
}

}  // namespace molt::upgrade
