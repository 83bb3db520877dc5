// Commands on their way from a connection to the store, and the store's answer. The same in all versions of kv, so that
// a connection and a store that have not changed at the same moment understand each other.
#pragma once

#include "reply.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kv {

struct executed;

/// Whole commands, to be executed in order.
///
/// `text` holds the words of all commands one after the other; `layout` says for each command how many words it has and
/// then the size of each. Two allocations for any number of commands.
struct execute {
  using reply = executed;

  std::string text;
  std::vector<std::uint32_t> layout;
};

/// The replies, in RESP2, and the commands that are still to be executed because the replies grew over `replies_slice`.
struct executed {
  std::string replies;
  std::uint32_t commands = 0;  ///< answered; at least 1
  execute unanswered;
};

/// The store ends a batch early when its replies are larger than this, so that a batch of large reads stays bounded.
inline constexpr std::size_t replies_slice = std::size_t{1} << 20U;

/// Reads the commands of a batch in order.
class batch_reader {
 public:
  explicit batch_reader(const execute& batch) : batch_{batch} {}

  [[nodiscard]] bool done() const noexcept { return next_ == batch_.layout.size(); }

  /// The words of the next command, at least one; valid until the next call and while the batch lives. A batch need not
  /// come from a connection: one whose layout does not fit its text ends with a command_error.
  [[nodiscard]] std::span<const std::string_view> next() {
    const std::size_t count = batch_.layout[next_++];
    if (count == 0 || count > batch_.layout.size() - next_) refuse();
    words_.clear();
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t size = batch_.layout[next_++];
      if (size > batch_.text.size() - used_) refuse();
      words_.push_back(std::string_view{batch_.text}.substr(used_, size));
      used_ += size;
    }
    return words_;
  }

  /// The commands not read yet.
  [[nodiscard]] execute rest() const {
    return {.text = batch_.text.substr(used_),
            .layout = {batch_.layout.begin() + static_cast<std::ptrdiff_t>(next_), batch_.layout.end()}};
  }

 private:
  [[noreturn]] void refuse() {
    next_ = batch_.layout.size();
    throw command_error{"ERR a batch whose layout does not fit its text"};
  }

  const execute& batch_;
  std::size_t next_ = 0;
  std::size_t used_ = 0;
  std::vector<std::string_view> words_;
};

}  // namespace kv
