// Executes batches of commands: finds each command, checks its number of words, catches its refusal.
#pragma once

#include "reply.hpp"
#include "request.hpp"
#include "text.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kv {

using words = std::span<const std::string_view>;

/// A command's name as one number: its letters in lower case. 0 for what can be no command.
constexpr std::uint64_t name_code(std::string_view name) noexcept {
  if (name.size() > 8) return 0;
  std::uint64_t code = 0;
  for (const char letter : name) code = code << 8U | static_cast<unsigned char>(to_lower(letter));
  return code;
}

/// A command of a store whose keys are a `Keyspace`.
template <class Keyspace>
struct command {
  std::string_view name;   ///< lower case, at most 8 letters
  int arity;               ///< words with the name; negative: at least so many
  std::string_view flags;  ///< as COMMAND shows them, with a blank between
  int first_key;
  int last_key;
  int step;
  void (*run)(Keyspace&, words, reply&);
  std::uint64_t code = name_code(name);
};

/// Commands in the order of their codes, for binary search.
template <class Keyspace, std::size_t... Sizes>
constexpr auto command_table(const std::array<command<Keyspace>, Sizes>&... groups) {
  std::array<command<Keyspace>, (Sizes + ...)> all{};
  auto next = all.begin();
  ((next = std::copy(groups.begin(), groups.end(), next)), ...);
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.code < b.code; });
  return all;
}

template <class Keyspace>
const command<Keyspace>* find_command(std::string_view name) noexcept {
  const std::uint64_t code = name_code(name);
  const std::span<const command<Keyspace>> all = Keyspace::commands();
  const auto found = std::lower_bound(all.begin(), all.end(), code,
                                      [](const auto& each, std::uint64_t wanted) { return each.code < wanted; });
  return code != 0 && found != all.end() && found->code == code ? &*found : nullptr;
}

/// "unknown command 'x', with args beginning with: 'a' 'b' ", cut where Redis cuts it.
inline std::string unknown_command(words request) {
  constexpr std::size_t shown_max = 128;
  const auto printable = [](std::string_view word, std::size_t size) {
    return std::string{word.substr(0, std::min(word.find('\0'), size))};
  };
  std::string arguments;
  for (std::size_t i = 1; i < request.size() && arguments.size() < shown_max; ++i)
    arguments += "'" + printable(request[i], shown_max - arguments.size()) + "' ";
  return "ERR unknown command '" + printable(request[0], shown_max) + "', with args beginning with: " + arguments;
}

[[noreturn]] inline void wrong_number_of_arguments(std::string_view command) {
  throw command_error{"ERR wrong number of arguments for '" + std::string{command} + "' command"};
}

template <class Keyspace>
void run_command(Keyspace& keys, words request, reply& answer) {
  const command<Keyspace>* const found = find_command<Keyspace>(request[0]);
  if (!found) throw command_error{unknown_command(request)};
  const int count = static_cast<int>(request.size());
  if (found->arity >= 0 ? count != found->arity : count < -found->arity) wrong_number_of_arguments(found->name);
  found->run(keys, request, answer);
}

/// Executes a batch in order. Ends early when the replies are larger than `replies_slice`; so they never take more than
/// that and one reply of at most `reply_max`.
template <class Keyspace>
executed run_batch(Keyspace& keys, const execute& batch) {
  executed done;
  batch_reader reader{batch};
  while (!reader.done() && done.replies.size() <= replies_slice) {
    const std::size_t replied = done.replies.size();
    reply answer{done.replies};
    try {
      run_command(keys, reader.next(), answer);
    } catch (const command_error& refusal) {
      done.replies.resize(replied);
      if (done.replies.capacity() > 2 * replies_slice) done.replies.shrink_to_fit();
      answer.error(refusal.what());
    }
    ++done.commands;
  }
  if (!reader.done()) done.unanswered = reader.rest();
  return done;
}

}  // namespace kv
