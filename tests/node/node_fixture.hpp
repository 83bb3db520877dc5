// Releases of the line plugin in a folder of their own, and clients for their listener.
#pragma once

#include "base/unique_fd.hpp"
#include "node/box.hpp"

#include <node_plugin_paths.hpp>

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>

namespace molt::node {

using namespace std::chrono_literals;

/// A blocking client with a deadline for everything.
class client {
 public:
  explicit client(std::uint16_t port) : fd_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)} {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  }
  [[nodiscard]] bool connected() const { return connected_; }
  [[nodiscard]] int fd() const { return fd_.get(); }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto size = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (size <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(size));
    }
    return true;
  }
  void end_of_input() { ::shutdown(fd_.get(), SHUT_WR); }

  /// The next line, or "<closed>", or "<timeout>".
  std::string line(std::chrono::milliseconds limit = 10s) {
    for (;;) {
      if (const auto end = got_.find('\n', searched_); end != std::string::npos) {
        std::string out = got_.substr(0, end);
        got_.erase(0, end + 1);
        searched_ = 0;
        return out;
      }
      searched_ = got_.size();
      pollfd poll{fd_.get(), POLLIN, 0};
      if (::poll(&poll, 1, static_cast<int>(limit.count())) <= 0) return "<timeout>";
      std::array<char, 65536> buffer;
      const auto size = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
      if (size <= 0) return "<closed>";
      got_.append(buffer.data(), static_cast<std::size_t>(size));
    }
  }
  std::string ask(std::string_view request) {
    send(std::string{request} + "\n");
    return line();
  }

 private:
  unique_fd fd_;
  bool connected_ = false;
  std::string got_;
  std::size_t searched_ = 0;
};

inline bool eventually(const std::function<bool()>& holds, std::chrono::milliseconds limit = 10s) {
  for (const auto end = std::chrono::steady_clock::now() + limit; std::chrono::steady_clock::now() < end;) {
    if (holds()) return true;
    std::this_thread::sleep_for(2ms);
  }
  return holds();
}

class releases_test : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "molt-node-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  struct shape {
    std::string version = "1.0.0";
    const char* plugin = fixtures::line_1_0_0;
    std::string servers = "[[server]]\nname = \"keeper\"\ntype = \"line.keeper\"\n";
    std::string listeners = listener("line", "line.connection");
    std::string upgrade = "";
    std::string supervisor = "";
  };
  static std::string listener(const std::string& name, const std::string& type, const std::string& more = "") {
    return "[[listener]]\nname = \"" + name + "\"\naddress = \"127.0.0.1:0\"\nconnection = \"" + type + "\"\n" + more;
  }
  static std::string extra_server() { return "[[server]]\nname = \"extra\"\ntype = \"line.extra\"\n"; }
  static shape version_2() {
    shape made;
    made.version = "2.0.0";
    made.plugin = fixtures::line_2_0_0;
    return made;
  }

  std::filesystem::path make_release(const shape& from) {
    const auto folder = folder_ / ("line-" + from.version);
    std::filesystem::create_directories(folder / "plugins");
    std::filesystem::copy_file(from.plugin, folder / "plugins/line.so",
                               std::filesystem::copy_options::overwrite_existing);
    std::ofstream{folder / "release.toml"} << "[release]\nname = \"line\"\nversion = \"" << from.version
                                           << "\"\n[[plugin]]\nname = \"line\"\nversion = \"" << from.version
                                           << "\"\nfile = \"plugins/line.so\"\n"
                                           << from.supervisor << from.servers << from.listeners << from.upgrade;
    return folder;
  }

  static std::uint16_t port_of(const std::string& address) {
    std::uint16_t port = 0;
    const auto colon = address.rfind(':');
    std::from_chars(address.data() + colon + 1, address.data() + address.size(), port);
    return port;
  }

  std::filesystem::path folder_;
};

class box_test : public releases_test {
 protected:
  void start(const shape& from = {}, box_options options = {}) {
    auto made = box::start(make_release(from), std::move(options));
    ASSERT_TRUE(made) << made.error().text();
    box_ = std::move(*made);
  }
  void TearDown() override {
    box_.reset();
    releases_test::TearDown();
  }
  [[nodiscard]] std::uint16_t port(std::string_view listener = "line") const {
    for (const auto& each : box_->status().listeners)
      if (each.name == listener) return port_of(each.address);
    return 0;
  }
  std::string call(const std::string& server, const std::string& message, const std::string& payload) const {
    const auto reply = box_->call({server, message, payload, {}});
    return reply ? *reply : "error: " + reply.error().text();
  }

  std::unique_ptr<box> box_;
};

}  // namespace molt::node
