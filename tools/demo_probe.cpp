// The demo's client: fills the store, calls it in a closed loop while it is upgraded, reads every key back, writes the
// report.
//
//   demo_probe port                            prints a free port of this machine
//   demo_probe load PORT KEYS                  sets KEYS keys
//   demo_probe watch PORT FILE                 calls until SIGTERM or SIGINT; then FILE holds what it saw
//   demo_probe check PORT KEYS FILE            reads the keys of `load` and compares; the outcome goes to FILE
//   demo_probe report FOLDER                   FOLDER/{phases,runs,watch,check} to FOLDER/report.json; exit 1 if
//   anything was lost
//
// Times in files are microseconds since the Unix epoch, as bash's EPOCHREALTIME.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <boost/json.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace {

using microseconds = std::int64_t;

microseconds now_us() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

[[noreturn]] void fail(const char* what) { throw std::system_error{errno, std::generic_category(), what}; }

/// A connection that sends requests and reads their replies.
class connection {
 public:
  explicit connection(std::uint16_t port) : port_{port} { open(); }
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;
  ~connection() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  void reopen() {
    ::close(descriptor_);
    input_.clear();
    taken_ = 0;
    open();
  }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0) fail("send");
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  /// One reply that is not an array: its kind and line ("+OK", ":5", "-ERR ...") or "$" and the text, or "$-1".
  std::string receive() {
    std::string line = take_line();
    if (line.empty()) throw std::runtime_error{"an empty reply"};
    if (line[0] != '$' || line == "$-1") return line;
    const auto size = static_cast<std::size_t>(std::stoul(line.substr(1)));
    while (input_.size() < taken_ + size + 2) read_more();
    std::string text = "$" + input_.substr(taken_, size);
    taken_ += size + 2;
    return text;
  }

  std::string ask(std::initializer_list<std::string_view> words) {
    send(request(words));
    return receive();
  }

  static std::string request(std::initializer_list<std::string_view> words) {
    std::string bytes = "*" + std::to_string(words.size()) + "\r\n";
    for (const std::string_view word : words)
      bytes.append("$").append(std::to_string(word.size())).append("\r\n").append(word).append("\r\n");
    return bytes;
  }

 private:
  void open() {
    descriptor_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor_ < 0) fail("socket");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(descriptor_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail("connect");
    const int on = 1;
    ::setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  }

  std::string take_line() {
    std::size_t end = 0;
    while ((end = input_.find("\r\n", taken_)) == std::string::npos) read_more();
    std::string line = input_.substr(taken_, end - taken_);
    taken_ = end + 2;
    return line;
  }

  void read_more() {
    input_.erase(0, taken_);
    taken_ = 0;
    std::array<char, 65536> bytes;
    const ssize_t got = ::recv(descriptor_, bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) return;
    if (got < 0) fail("recv");
    if (got == 0) throw std::runtime_error{"the server closed the connection"};
    input_.append(bytes.data(), static_cast<std::size_t>(got));
  }

  std::uint16_t port_;
  int descriptor_ = -1;
  std::string input_;
  std::size_t taken_ = 0;  ///< bytes of input_ that were returned
};

// -- The keys that are loaded

std::string key_of(std::int64_t i) {
  std::string digits = std::to_string(i);
  return "demo:" + std::string(9 - std::min<std::size_t>(digits.size(), 9), '0') + digits;
}

std::string value_of(std::int64_t i) {
  return "value " + std::to_string(i * 7919) + std::string(static_cast<std::size_t>(i % 40), '.');
}

/// The value at which the hook of kv 2.0.1 throws.
constexpr std::string_view unlucky_value = "unlucky";

/// A key that lies in the middle of the store's 4096 parts, so that half of them are converted when the hook meets it.
std::int64_t unlucky_key(std::int64_t keys) {
  for (std::int64_t i = keys / 2; i < keys; ++i)
    if (std::hash<std::string>{}(key_of(i)) >> 52U == 2048) return i;
  return keys / 2;
}

/// Sends a request per key, many at a time, and gives each reply to `look`.
template <class Request, class Look>
void for_each_key(std::uint16_t port, std::int64_t keys, Request make_request, Look look) {
  constexpr std::int64_t together = 512;
  connection server{port};
  for (std::int64_t first = 0; first < keys; first += together) {
    const std::int64_t last = std::min(first + together, keys);
    std::string requests;
    for (std::int64_t i = first; i < last; ++i) requests += make_request(i);
    server.send(requests);
    for (std::int64_t i = first; i < last; ++i) look(i, server.receive());
  }
}

int load(std::uint16_t port, std::int64_t keys) {
  const std::int64_t unlucky = unlucky_key(keys);
  std::int64_t refused = 0;
  for_each_key(
      port, keys,
      [&](std::int64_t i) {
        return connection::request({"SET", key_of(i), i == unlucky ? std::string{unlucky_value} : value_of(i)});
      },
      [&](std::int64_t, const std::string& reply) { refused += reply == "+OK" ? 0 : 1; });
  if (refused > 0) std::fprintf(stderr, "demo_probe: %lld keys were not set\n", static_cast<long long>(refused));
  return refused > 0 ? 1 : 0;
}

int check(std::uint16_t port, std::int64_t keys, const std::string& file) {
  const std::int64_t unlucky = unlucky_key(keys);
  std::int64_t wrong = 0;
  for_each_key(
      port, keys,
      [](std::int64_t i) {
        return connection::request({"GET", key_of(i)});
      },
      [&](std::int64_t i, const std::string& reply) {
        const std::string expected = i == unlucky ? std::string{unlucky_value} : value_of(i);
        if (reply == "$" + expected) return;
        if (++wrong <= 3)
          std::fprintf(stderr, "demo_probe: %s holds %s, not %s\n", key_of(i).c_str(), reply.c_str(), expected.c_str());
      });
  std::ofstream{file} << keys << ' ' << wrong << '\n';
  return wrong > 0 ? 1 : 0;
}

// -- The closed loop

volatile std::sig_atomic_t stopping = 0;

/// Calls one after the other, on several connections in turn: writes keys of its own, reads them and others back,
/// counts.
class watcher {
 public:
  explicit watcher(std::uint16_t port) {
    for (auto& each : connections_) each = std::make_unique<connection>(port);
  }

  void run() {
    connections_[0]->ask({"DEL", "probe:counter"});
    last_success_ = now_us();
    while (stopping == 0) step();
    read_everything_back();
  }

  void write(const std::string& file) const {
    std::ofstream out{file};
    out << "requests " << requests_ << "\nfailed " << failed_ << "\ndropped " << dropped_ << "\nkeys "
        << written_.size() << "\nwrong " << wrong_ << '\n';
    for (const auto& [bucket, gap] : gaps_) out << "gap " << gap.end << ' ' << gap.length << '\n';
  }

 private:
  struct gap {
    microseconds end = 0;
    microseconds length = 0;
  };
  static constexpr std::size_t connection_count = 4;
  static constexpr std::uint64_t own_keys = 20000;
  static constexpr microseconds bucket_us = 5000;  ///< the largest gap is kept of each such time

  void step() {
    const std::uint64_t turn = turn_++;
    const std::string key = "probe:" + std::to_string(turn * 7919 % own_keys);
    switch (turn % 3) {
      case 0: {
        const std::string value = "written at turn " + std::to_string(turn);
        if (call(turn, {"SET", key, value}, "+OK")) written_[key] = value;
        break;
      }
      case 1: {
        const auto known = written_.find(key);
        call(turn, {"GET", key}, known == written_.end() ? "$-1" : "$" + known->second);
        break;
      }
      default:
        if (call(turn, {"INCR", "probe:counter"}, ":" + std::to_string(counter_ + 1))) ++counter_;
    }
  }

  bool call(std::uint64_t turn, std::initializer_list<std::string_view> words, const std::string& expected) {
    connection& server = *connections_[turn % connection_count];
    ++requests_;
    try {
      const std::string reply = server.ask(words);
      if (reply == expected) {
        note_success();
        return true;
      }
      complain("answered " + reply + " instead of " + expected);
    } catch (const std::exception& dropped) {
      ++dropped_;
      complain(dropped.what());
      reconnect(server);
    }
    ++failed_;
    return false;
  }

  void reconnect(connection& server) {
    while (stopping == 0) {
      try {
        return server.reopen();
      } catch (const std::system_error&) {
        ::usleep(1000);
      }
    }
  }

  void note_success() {
    const microseconds now = now_us();
    gap& largest = gaps_[now / bucket_us];
    if (now - last_success_ > largest.length) largest = {now, now - last_success_};
    last_success_ = now;
  }

  void complain(const std::string& why) {
    if (failed_ < 3) std::fprintf(stderr, "demo_probe: %s\n", why.c_str());
  }

  void read_everything_back() {
    for (const auto& [key, value] : written_)
      if (connections_[0]->ask({"GET", key}) != "$" + value) ++wrong_;
    if (connections_[0]->ask({"GET", "probe:counter"}) != "$" + std::to_string(counter_)) ++wrong_;
    requests_ += static_cast<std::int64_t>(written_.size()) + 1;
  }

  std::array<std::unique_ptr<connection>, connection_count> connections_;
  std::uint64_t turn_ = 0;
  std::int64_t counter_ = 0;
  std::map<std::string, std::string> written_;
  std::map<microseconds, gap> gaps_;
  microseconds last_success_ = 0;
  std::int64_t requests_ = 0;
  std::int64_t failed_ = 0;
  std::int64_t dropped_ = 0;
  std::int64_t wrong_ = 0;
};

int watch(std::uint16_t port, const std::string& file) {
  struct sigaction stop {};
  stop.sa_handler = [](int) { stopping = 1; };
  ::sigaction(SIGTERM, &stop, nullptr);
  ::sigaction(SIGINT, &stop, nullptr);
  watcher watching{port};
  watching.run();
  watching.write(file);
  return 0;
}

// -- The report

struct phase {
  std::string from;
  std::string to;
  std::string expected;
  microseconds begin = 0;
  microseconds end = 0;
  int exit_code = 0;
  std::string file;  ///< what `molt upgrade --json` or `molt rollback --json` printed
};

struct seen {
  std::int64_t requests = 0;
  std::int64_t failed = 0;
  std::int64_t dropped = 0;
  std::int64_t keys = 0;
  std::int64_t wrong = 0;
  std::vector<std::pair<microseconds, microseconds>> gaps;  ///< end, length
};

std::ifstream open_input(const std::string& file) {
  std::ifstream input{file};
  if (!input) throw std::runtime_error{"cannot read " + file};
  return input;
}

void read_watch(const std::string& file, seen& into) {
  std::ifstream input = open_input(file);
  std::string name;
  std::int64_t value = 0;
  while (input >> name >> value) {
    if (name == "requests") into.requests += value;
    if (name == "failed") into.failed += value;
    if (name == "dropped") into.dropped += value;
    if (name == "wrong") into.wrong += value;
    if (name != "gap") continue;
    std::int64_t length = 0;
    input >> length;
    into.gaps.emplace_back(value, length);
  }
}

/// One line per run of redis-benchmark: requests, failed, dropped.
void read_runs(const std::string& file, seen& into) {
  std::ifstream input = open_input(file);
  std::int64_t requests = 0;
  std::int64_t failed = 0;
  std::int64_t dropped = 0;
  while (input >> requests >> failed >> dropped) {
    into.requests += requests;
    into.failed += failed;
    into.dropped += dropped;
  }
}

std::vector<phase> read_phases(const std::string& file) {
  std::ifstream input = open_input(file);
  std::vector<phase> phases;
  phase each;
  while (input >> each.from >> each.to >> each.expected >> each.begin >> each.end >> each.exit_code >> each.file)
    phases.push_back(each);
  return phases;
}

bool overlaps(const phase& during, microseconds end, microseconds length) {
  return end >= during.begin && end - length <= during.end;
}

double milliseconds(microseconds time) { return static_cast<double>(time) / 1000; }

boost::json::object read_answer(const phase& each) {
  std::stringstream text;
  text << open_input(each.file).rdbuf();
  boost::system::error_code failed;
  const boost::json::value answer = boost::json::parse(text.str(), failed);
  if (failed || !answer.is_object()) return {};
  return answer.as_object();
}

/// The text of a member, "none" if there is no such.
std::string text_of(const boost::json::object& of, const char* name) {
  const boost::json::value* const found = of.if_contains(name);
  return found && found->is_string() ? std::string{found->as_string()} : "none";
}

template <class... Values>
std::string formatted(const char* format, Values... values) {
  std::array<char, 1024> text{};
  const int size = std::snprintf(text.data(), text.size(), format, values...);
  return {text.data(), std::min(static_cast<std::size_t>(std::max(size, 0)), text.size() - 1)};
}

int report(const std::string& folder) {
  seen all;
  read_watch(folder + "/watch", all);
  read_runs(folder + "/runs", all);
  std::int64_t keys = 0;
  std::int64_t wrong = 0;
  open_input(folder + "/check") >> keys >> wrong;
  all.requests += 2 * keys;  // set once and read once
  const std::vector<phase> phases = read_phases(folder + "/phases");

  microseconds steady = 0;
  for (const auto& gap : all.gaps)
    if (std::none_of(phases.begin(), phases.end(),
                     [&](const phase& each) { return overlaps(each, gap.first, gap.second); }))
      steady = std::max(steady, gap.second);

  bool good = all.failed == 0 && all.dropped == 0 && all.wrong == 0 && wrong == 0 && keys > 0;
  std::string upgrades;
  std::printf("\n  %-10s %-10s %-12s %10s %16s  %s\n", "from", "to", "result", "total ms", "largest gap ms", "way");
  for (const phase& each : phases) {
    microseconds largest = 0;
    for (const auto& [end, length] : all.gaps)
      if (overlaps(each, end, length)) largest = std::max(largest, length);
    const boost::json::object answer = read_answer(each);
    const std::string result = text_of(answer, "result");
    const std::string way = text_of(answer, "way");
    const boost::json::value* const total = answer.if_contains("total_ms");
    const double total_ms = total ? total->to_number<double>() : milliseconds(each.end - each.begin);
    good = good && result == each.expected;
    upgrades += upgrades.empty() ? "" : ",";
    upgrades += formatted(
        "\n  {\"from\": \"%s\", \"to\": \"%s\", \"result\": \"%s\", \"total_ms\": %.3f, "
        "\"largest_gap_ms\": %.3f, \"way\": \"%s\"}",
        each.from.c_str(), each.to.c_str(), result.c_str(), total_ms, milliseconds(largest), way.c_str());
    std::printf("  %-10s %-10s %-12s %10.1f %16.1f  %s\n", each.from.c_str(), each.to.c_str(), result.c_str(), total_ms,
                milliseconds(largest), way.c_str());
  }
  wrong += all.wrong;
  const auto number = [](std::int64_t value) { return static_cast<long long>(value); };
  std::ofstream{folder + "/report.json"} << formatted(
                                                "{\"requests\": %lld, \"failed_requests\": %lld, "
                                                "\"dropped_connections\": %lld, \"keys\": %lld, \"keys_wrong\": %lld,\n"
                                                " \"steady_gap_ms\": %.3f, \"upgrades\": [",
                                                number(all.requests), number(all.failed), number(all.dropped),
                                                number(keys), number(wrong), milliseconds(steady))
                                         << upgrades << "\n]}\n";
  std::printf(
      "\n  %lld requests, %lld failed, %lld connections dropped; %lld keys read back, %lld wrong\n"
      "  largest gap without an upgrade: %.1f ms\n",
      number(all.requests), number(all.failed), number(all.dropped), number(keys), number(wrong), milliseconds(steady));
  return good ? 0 : 1;
}

int print_free_port() {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (descriptor < 0 || ::bind(descriptor, reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
      ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    fail("bind");
  std::printf("%u\n", static_cast<unsigned>(ntohs(address.sin_port)));
  ::close(descriptor);
  return 0;
}

int run(const std::vector<std::string>& words) {
  const auto port = [&] { return static_cast<std::uint16_t>(std::stoul(words.at(1))); };
  const auto keys = [&] { return static_cast<std::int64_t>(std::stoll(words.at(2))); };
  const std::string what = words.empty() ? "" : words[0];
  if (what == "port" && words.size() == 1) return print_free_port();
  if (what == "load" && words.size() == 3) return load(port(), keys());
  if (what == "watch" && words.size() == 3) return watch(port(), words[2]);
  if (what == "check" && words.size() == 4) return check(port(), keys(), words[3]);
  if (what == "report" && words.size() == 2) return report(words[1]);
  std::fprintf(stderr,
               "usage: demo_probe port | load PORT KEYS | watch PORT FILE | check PORT KEYS FILE | report FOLDER\n");
  return 2;
}

}  // namespace

int main(int count, char** words) {
  try {
    return run({words + 1, words + count});
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "demo_probe: %s\n", failure.what());
    return 1;
  }
}
