#include "script.hpp"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <utility>

namespace kv_test {
namespace {

/// Takes a text in double quotes from the front, with \r \n \t \" \\ and \xHH.
std::string take_quoted(std::string_view& from) {
  std::string text;
  for (from.remove_prefix(1); !from.empty() && from.front() != '"'; from.remove_prefix(1)) {
    if (from.front() != '\\') {
      text += from.front();
      continue;
    }
    from.remove_prefix(1);
    switch (from.front()) {
      case 'r':
        text += '\r';
        break;
      case 'n':
        text += '\n';
        break;
      case 't':
        text += '\t';
        break;
      case 'x':
        text += static_cast<char>(std::stoi(std::string{from.substr(1, 2)}, nullptr, 16));
        from.remove_prefix(2);
        break;
      default:
        text += from.front();
    }
  }
  from.remove_prefix(1);
  return text;
}

std::vector<std::string> split(std::string_view line) {
  std::vector<std::string> words;
  while (!line.empty()) {
    if (line.front() == ' ') {
      line.remove_prefix(1);
    } else if (line.front() == '"') {
      words.push_back(take_quoted(line));
    } else {
      const std::size_t end = std::min(line.find(' '), line.size());
      words.emplace_back(line.substr(0, end));
      line.remove_prefix(end);
    }
  }
  return words;
}

std::ifstream open(const char* name) {
  std::ifstream file{std::string{KV_TEST_FOLDER "/"} + name};
  if (!file) throw std::runtime_error{std::string{"cannot read "} + name};
  return file;
}

/// The elements of an array of bulk strings, sorted.
std::vector<std::string> elements(std::string_view array) {
  std::vector<std::string> found;
  array.remove_prefix(std::min(array.find('\n') + 1, array.size()));
  while (!array.empty() && array.front() == '$') {
    const auto size = static_cast<std::size_t>(std::atoll(array.data() + 1));
    array.remove_prefix(array.find('\n') + 1);
    found.emplace_back(array.substr(0, size));
    array.remove_prefix(size + 2);
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

std::vector<script_line> read_commands(int major) {
  std::vector<script_line> lines;
  std::ifstream file = open("commands.txt");
  std::string text;
  bool known = true;
  for (int number = 1; std::getline(file, text); ++number) {
    if (text.empty() || text.front() == '#') continue;
    if (text.front() == '@') {
      known = std::stoi(text.substr(1)) <= major;
      continue;
    }
    if (!known) continue;
    script_line line{number, text, comparison::equal, {}};
    if (text.front() == '~') line.how = comparison::any_order;
    if (text.front() == '%') line.how = comparison::near;
    line.bytes = request(split(std::string_view{text}.substr(line.how == comparison::equal ? 0 : 1)));
    lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<script_line> read_raw() {
  std::vector<script_line> lines;
  std::ifstream file = open("raw.txt");
  std::string text;
  for (int number = 1; std::getline(file, text); ++number) {
    std::string_view rest = text;
    if (rest.empty() || rest.front() != '"') continue;
    script_line line{number, text, comparison::equal, take_quoted(rest)};
    if (rest.starts_with("...")) {
      const std::string once = line.bytes;
      const int times = std::atoi(rest.data() + 3);
      for (int i = 1; i < times; ++i) line.bytes += once;
      rest.remove_prefix(std::min(rest.find('"'), rest.size()));
      if (!rest.empty()) line.bytes += take_quoted(rest);
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

bool agree(comparison how, std::string_view theirs, std::string_view ours) {
  switch (how) {
    case comparison::equal:
      return theirs == ours;
    case comparison::any_order:
      return theirs.substr(0, theirs.find('\n')) == ours.substr(0, ours.find('\n')) &&
             elements(theirs) == elements(ours);
    case comparison::near:
      return theirs.starts_with(':') && ours.starts_with(':') &&
             std::llabs(std::atoll(theirs.data() + 1) - std::atoll(ours.data() + 1)) <= 1000;
  }
  return false;
}

std::vector<std::string> random_command(std::mt19937& random, int major) {
  static const std::vector<std::vector<std::string>> by_version{
      {"get k",      "set k v",    "del k",      "del k k",  "exists k k", "mget k k k", "mset k v k v", "incr k",
       "decr k",     "incrby k i", "append k v", "strlen k", "dbsize",     "get",        "set k",        "mset k v k",
       "incrby k v", "echo v",     "set k i",    "set k i",  "append k i", "foo v"},
      {"set k v ex t",   "set k v px t",  "set k v nx",     "set k v xx",     "set k v keepttl", "set k v nx get",
       "set k v xx get", "set k v get",   "setex k t v",    "expire k t",     "ttl k",           "persist k",
       "expire k t nx",  "expire k t xx", "set k v o o",    "expire k t o o", "set k v ex t o",  "setex k 1000 v",
       "expire k 1000",  "expire k 2000", "set k v ex 3000"},
      {"lpush k v", "rpush k v v", "lpop k", "rpop k", "lpop k i", "rpop k i", "lrange k i i", "lrange k 0 -1",
       "llen k", "type k", "lpush k v v v", "lpop k 2"}};
  static const std::vector<std::string> values{
      "",    "a",  "abc", "10",   "-5", "0", "9223372036854775807", "-9223372036854775808",
      "1.5", " 1", "x y", "\r\n", "007"};
  static const std::vector<std::string> integers{"0", "1", "-1", "2", "5", "-2", "100", "5000", "9223372036854775807",
                                                 "x", ""};
  static const std::vector<std::string> times{"0", "-1", "100000", "500000", "9223372036854775807", "x", "1.5", ""};
  static const std::vector<std::string> options{"nx", "xx", "ex", "px", "get", "keepttl", "100", "foo"};
  const auto pick = [&](const auto& from) -> const auto& {
    return from[std::uniform_int_distribution<std::size_t>{0, from.size() - 1}(random)];
  };
  const auto version = std::uniform_int_distribution<std::size_t>{0, static_cast<std::size_t>(major) - 1}(random);
  std::vector<std::string> words = split(pick(by_version[version]));
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (words[i] == "k")
      words[i] = "key" + std::to_string(random() % 6);
    else if (words[i] == "v")
      words[i] = pick(values);
    else if (words[i] == "i")
      words[i] = pick(integers);
    else if (words[i] == "t")
      words[i] = pick(times);
    else if (words[i] == "o")
      words[i] = pick(options);
  }
  return words;
}

std::string shown(std::string_view bytes) {
  constexpr std::size_t shown_max = 400;
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  for (const char letter : bytes.substr(0, shown_max)) {
    const auto code = static_cast<unsigned char>(letter);
    if (letter == '\r')
      text += "\\r";
    else if (letter == '\n')
      text += "\\n";
    else if (code < 0x20 || code >= 0x7f)
      text.append("\\x").append(1, digits[code >> 4U]).append(1, digits[code & 15U]);
    else
      text += letter;
  }
  if (bytes.size() > shown_max) text += "... (" + std::to_string(bytes.size()) + " bytes)";
  return text;
}

}  // namespace kv_test
