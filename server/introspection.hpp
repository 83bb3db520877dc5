// What the runtime tells about one server to an operator: OTP's `sys`.
#pragma once

#include "plugin/abi.h"

#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace molt::servers {

class server_type;

/// How often something took how long. Bucket i counts durations from 2^(i-1) up to, and not with, 2^i nanoseconds;
/// bucket 0 those of 0, the last one all that are longer.
struct duration_histogram {
  static constexpr std::size_t buckets = 40;
  std::array<std::uint64_t, buckets> counts{};

  void add(std::int64_t duration_ns) noexcept {
    const auto width = static_cast<std::size_t>(std::bit_width(static_cast<std::uint64_t>(duration_ns)));
    ++counts[duration_ns <= 0 ? 0 : width < buckets ? width : buckets - 1];
  }
  [[nodiscard]] std::uint64_t total() const noexcept {
    std::uint64_t sum = 0;
    for (const auto each : counts) sum += each;
    return sum;
  }
  /// Nanoseconds that a share (0 to 1) of the durations did not exceed, rounded up to a power of two; 0 if there are
  /// none.
  [[nodiscard]] std::int64_t quantile_ns(double share) const noexcept {
    const auto wanted = share * static_cast<double>(total());
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < buckets; ++i) {
      sum += counts[i];
      if (sum != 0 && static_cast<double>(sum) >= wanted) return std::int64_t{1} << i;
    }
    return 0;
  }
};

/// One server as `molt servers` shows it.
struct server_info {
  molt_ref ref{};
  std::string name;
  std::string type;
  std::string version;
  std::string status;  ///< "idle", "running", "suspended"
  std::size_t queued = 0;
  std::size_t queued_most = 0;  ///< the longest that the queue has been
  std::uint64_t handled = 0;
  std::chrono::seconds started_at{0};  ///< since the Unix epoch
  bool watched = false;
  std::size_t recorded = 0;  ///< so many of its last messages are kept; 0: none
};

enum class message_kind : std::uint8_t { call, cast, data };

/// One message that a watched server has handled.
struct trace_event {
  std::uint64_t number = 0;        ///< counted from 1 on
  std::chrono::nanoseconds at{0};  ///< when its handler began, since the Unix epoch
  std::chrono::nanoseconds took{0};
  message_kind kind = message_kind::call;
  std::string message;
  std::string from;      ///< the server that called; empty from outside, and for messages that had to wait
  int status = MOLT_OK;  ///< a molt_status
};

/// What is kept of the messages that a server handled last: for crash reports, and for whoever wants to handle them
/// again.
struct recording {
  std::size_t messages = 0;       ///< 0: nothing is kept
  std::size_t payload_bytes = 0;  ///< of their payloads, in archive form; the oldest give way. 0: none is kept

  friend bool operator==(const recording&, const recording&) = default;
};
inline constexpr std::size_t recorded_messages_max = 1024;
inline constexpr std::size_t recorded_payload_bytes_max = std::size_t{16} << 20U;

/// One of those messages.
struct recorded_message {
  std::chrono::nanoseconds at{0};  ///< when its handler began, since the Unix epoch
  std::chrono::nanoseconds took{0};
  message_kind kind = message_kind::call;
  int status = MOLT_OK;      ///< a molt_status
  std::string message;       ///< its name
  std::uint64_t key = 0;     ///< which tells it from others of its name, of other versions; 0: data
  bool has_payload = false;  ///< false: not asked for, or too large
  std::string payload;       ///< of the sender's version, in archive form; data: the bytes themselves
};

/// What has been recorded of a watched server.
struct trace_page {
  bool watching = false;            ///< false: the watch is over, and nothing follows
  bool ended = false;               ///< the server has
  std::string why;                  ///< it ended
  std::uint64_t last = 0;           ///< the newest event's number
  std::uint64_t missed = 0;         ///< events that were asked for and are not kept any more
  std::vector<trace_event> events;  ///< oldest first
};

/// More about one server.
struct server_status {
  server_info info;
  std::optional<std::uint64_t> archive_bytes;  ///< of its state, if that was asked for
  std::optional<duration_histogram> handlers;  ///< since it is watched
};

/// A state as an archive, with the type that it is of; shared, so that the schema can be used.
struct state_copy {
  std::shared_ptr<const server_type> type;
  std::string archive;
  bool formatted = false;  ///< it is what the type's format_status makes of the state
};

}  // namespace molt::servers
