// Commands on lists: LPUSH RPUSH LPOP RPOP LRANGE LLEN; and TYPE.
#pragma once

#include "../common/interpreter.hpp"
#include "../common/reply.hpp"
#include "../common/string_commands.hpp"
#include "../common/text.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace kv {

template <class Keyspace>
struct list_commands {
  static void lpush(Keyspace& keys, words request, reply& answer) {
    auto& list = keys.list_or_new(request[1]);
    for (const std::string_view each : request.subspan(2)) list.emplace_front(each);
    answer.integer(static_cast<std::int64_t>(list.size()));
  }

  static void rpush(Keyspace& keys, words request, reply& answer) {
    auto& list = keys.list_or_new(request[1]);
    for (const std::string_view each : request.subspan(2)) list.emplace_back(each);
    answer.integer(static_cast<std::int64_t>(list.size()));
  }

  static void lpop(Keyspace& keys, words request, reply& answer) {
    pop("lpop", keys, request, answer, [](auto& list) {
      std::string first = std::move(list.front());
      list.pop_front();
      return first;
    });
  }

  static void rpop(Keyspace& keys, words request, reply& answer) {
    pop("rpop", keys, request, answer, [](auto& list) {
      std::string last = std::move(list.back());
      list.pop_back();
      return last;
    });
  }

  /// Negative positions count from the end; both ends are included.
  static void lrange(Keyspace& keys, words request, reply& answer) {
    std::int64_t first = integer_of(request[2]);
    std::int64_t last = integer_of(request[3]);
    const auto* const list = keys.find_list(request[1]);
    const auto size = list ? static_cast<std::int64_t>(list->size()) : 0;
    if (first < 0) first = std::max<std::int64_t>(first + size, 0);
    if (last < 0) last += size;
    last = std::min(last, size - 1);
    if (first > last) return answer.array(0);
    answer.array(static_cast<std::size_t>(last - first + 1));
    for (std::int64_t i = first; i <= last; ++i) answer.bulk((*list)[static_cast<std::size_t>(i)]);
  }

  static void llen(Keyspace& keys, words request, reply& answer) {
    const auto* const list = keys.find_list(request[1]);
    answer.integer(list ? static_cast<std::int64_t>(list->size()) : 0);
  }

  static void type(Keyspace& keys, words request, reply& answer) { answer.simple(keys.type_of(request[1])); }

  static constexpr std::array<command<Keyspace>, 7> commands{{
      {"llen", 2, "readonly fast", 1, 1, 1, &llen},
      {"lpop", -2, "write fast", 1, 1, 1, &lpop},
      {"lpush", -3, "write denyoom fast", 1, 1, 1, &lpush},
      {"lrange", 4, "readonly", 1, 1, 1, &lrange},
      {"rpop", -2, "write fast", 1, 1, 1, &rpop},
      {"rpush", -3, "write denyoom fast", 1, 1, 1, &rpush},
      {"type", 2, "readonly fast", 1, 1, 1, &type},
  }};

 private:
  template <class Take>
  static void pop(std::string_view name, Keyspace& keys, words request, reply& answer, Take take) {
    if (request.size() > 3) wrong_number_of_arguments(name);
    const bool counted = request.size() == 3;
    const std::int64_t wanted = counted ? parse_integer(request[2]).value_or(-1) : 1;
    if (wanted < 0) throw command_error{"ERR value is out of range, must be positive"};
    auto* const list = keys.find_list(request[1]);
    if (!list) return counted ? answer.null_array() : answer.null();
    const std::size_t count = std::min(static_cast<std::size_t>(wanted), list->size());
    std::size_t bytes = 0;  // looked at first: what is taken and then not told would be lost
    for (std::size_t i = 0; i < count; ++i) bytes += (*list)[name == "lpop" ? i : list->size() - 1 - i].size() + 32;
    answer.require_room(bytes);
    if (counted) answer.array(count);
    for (std::size_t i = 0; i < count; ++i) answer.bulk(take(*list));
    if (list->empty()) keys.erase(request[1]);
  }
};

}  // namespace kv
