// Small values that authors keep in states and pass in messages: references, reply tokens, timers, arguments, losses.
// All of them are code-free: a newer image may adopt them.
#pragma once

#include "plugin/abi.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace molt {

/// A reference to a server. Harmless after its server is gone. Valid in one process.
struct ref {
  std::uint64_t bits = 0;

  explicit operator bool() const noexcept { return bits != 0; }
  friend bool operator==(ref, ref) = default;
};

/// Answers one call later: keep it in the state, then `ctx.reply(token, value)`. A call whose reply is void is answered
/// by reply_to<done> and `ctx.reply(token)`.
template <class Reply>
struct reply_to {
  static_assert(!std::is_void_v<Reply>,
                "molt: a message with `using reply = void` is answered later by molt::reply_to<molt::done> and "
                "ctx.reply(token)");
  using value_type = Reply;
  std::uint64_t token = 0;

  explicit operator bool() const noexcept { return token != 0; }
  friend bool operator==(reply_to, reply_to) = default;

  /// The same call, answered with another version of its reply; for state hooks. The caller gets what it expects,
  /// through reply_change or reply_change_down.
  template <class Other>
  [[nodiscard]] reply_to<Other> as() const noexcept {
    return {token};
  }
};

/// Last argument of a reply_change or reply_change_down that is meant for the replies to one message only.
template <class Message>
struct answer_to {};

/// A pending `send_after` or `send_every`.
struct timer {
  std::uint64_t id = 0;

  explicit operator bool() const noexcept { return id != 0; }
  friend bool operator==(timer, timer) = default;
};

/// A pending `ctx.monitor`.
struct monitor {
  std::uint64_t id = 0;

  explicit operator bool() const noexcept { return id != 0; }
  friend bool operator==(monitor, monitor) = default;
};

/// The reply of a call that answers nothing but "done".
struct done {};

// -- What the host sends. It and all images must agree on these: a change of one raises MOLT_ABI_VERSION.

/// A monitored server has ended, or was not there to be monitored.
struct down {
  molt::ref ref{};
  std::string name;  ///< under which it was registered; empty if it was not, or had ended before
  std::string why;
  bool failed = false;  ///< it threw, or was linked to one that failed
  molt::monitor monitor{};
};

/// A linked server has ended. Only for servers that handle it (OTP's trap_exit); others fail with it, if it failed.
struct exit_signal {
  molt::ref ref{};
  std::string name;
  std::string why;
  bool failed = false;
};

/// Offloaded work threw.
struct offload_failed {
  std::string message;  ///< the name of the message that is not coming
  std::string why;
};

/// Thrown by init: the server does not start, and that is not a failure of its code.
class refused : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Thrown by init: no server is to run, and all is well (OTP's `ignore`). Whoever starts it gets an empty reference; a
/// supervisor keeps the child's place, without a server, and goes on with the next.
class ignored : public std::exception {
 public:
  [[nodiscard]] const char* what() const noexcept override { return "no server is wanted"; }
};

/// What a lossy hook loses: the name by which an operator accepts it, and a sentence.
struct loss {
  const char* name = nullptr;
  const char* text = nullptr;
};

/// Owned arguments, for ctx.start().
using argument_list = std::vector<std::pair<std::string, std::string>>;

/// The arguments of a server from its release, or those of an upgrade. A view: not to be kept.
class arguments {
 public:
  arguments() = default;
  explicit arguments(const molt_arguments& abi) noexcept : abi_{abi} {}

  [[nodiscard]] std::optional<std::string_view> find(std::string_view key) const noexcept {
    for (std::size_t i = 0; i < abi_.count; ++i)
      if (key == abi_.items[i].key) return std::string_view{abi_.items[i].value};
    return std::nullopt;
  }
  [[nodiscard]] std::string_view get(std::string_view key, std::string_view otherwise = {}) const noexcept {
    return find(key).value_or(otherwise);
  }
  /// Throws std::invalid_argument, naming the key, if the value is not such a number.
  template <class Number>
  [[nodiscard]] Number number(std::string_view key, Number otherwise) const {
    const auto text = find(key);
    if (!text) return otherwise;
    Number value{};
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc{} || end != text->data() + text->size())
      throw std::invalid_argument{"argument " + std::string{key} + " = \"" + std::string{*text} +
                                  "\" is not such a number"};
    return value;
  }
  [[nodiscard]] std::size_t size() const noexcept { return abi_.count; }
  [[nodiscard]] const molt_arguments& abi() const noexcept { return abi_; }

 private:
  molt_arguments abi_{nullptr, 0};
};

/// Says of a class with its own serialize what the compiler cannot know. Specialise it, or give the class static
/// members `molt_name`, `molt_version`, `molt_code_free` with the same meaning.
///
///     template <> struct molt::described<geo::index> {
///       // Equal over versions.
///       static constexpr std::string_view name = "index";
///       // Passed to serialize; raise it with each change of the form.
///       static constexpr std::uint32_t version = 2;
///       // No pointer to code or to statics inside. Optional: false.
///       static constexpr bool code_free = true;
///     };
template <class T>
struct described;

}  // namespace molt
