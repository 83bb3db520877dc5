// What a dying molt-node leaves: lines of text, written by the signal handler (crash_signal) and read by whoever is
// alive afterwards (crash_folder).
//
//   molt-crash 1                                     first
//   signal <number> <code> <address> <instruction>   second; addresses in hexadecimal
//   time <seconds> <nanoseconds>                     since the Unix epoch
//   process <pid> <thread> <thread's name>
//   release <id>
//   folder <path>                                    of the release
//   text <what std::terminate was called for>
//   server <reference> <queued> <handled> <type> <version> <name>
//   recorded                                         the server before: what it handled last follows
//   last <at> <took> <call|cast|data> <status> <message>  oldest first; nanoseconds, since the Unix epoch and long
//   handler <address> <message>                      of the server before
//   frame <address>                                  the innermost first
//   omitted <frames>                                 between the frames before and those behind
//   frames-by <unwinder|frame-pointers>
//   image <begin> <end> <file offset> <build ID> <path>
//   fault <stage>                                    the handler itself was stopped by a signal there, and went on
//   end                                              last; without it the handler did not finish
//
// A word is percent-encoded: bytes below 33, above 126 and '%' as %hh; "-" stands for an empty one. A file is refused
// if a line is not like this or a bound is passed; what a cut file holds up to its last whole line is taken.
#pragma once

#include "base/result.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace molt::node {

inline constexpr std::size_t crash_raw_size_max = 256 * 1024;
inline constexpr std::size_t crash_raw_servers_max = 16;
inline constexpr std::size_t crash_raw_handlers_max = 1024;  ///< of all servers
inline constexpr std::size_t crash_raw_messages_max = 1024;  ///< of all servers
inline constexpr std::size_t crash_raw_frames_max = 128;
inline constexpr std::size_t crash_raw_images_max = 512;

/// An executable mapping of a file.
struct mapped_image {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::uint64_t file_offset = 0;
  std::string build_id;  ///< lower-case hex; empty: unknown
  std::string path;
};

struct crash_raw {
  struct handler {
    std::uint64_t address = 0;
    std::string message;
  };
  struct handled_message {
    std::int64_t at_ns = 0;
    std::int64_t took_ns = 0;
    std::string kind;
    int status = 0;
    std::string message;
  };
  struct server {
    std::uint64_t ref = 0;
    std::uint64_t queued = 0;
    std::uint64_t handled = 0;
    std::string type;
    std::string version;
    std::string name;
    bool recorded = false;
    std::vector<handled_message> last;  ///< oldest first
    std::vector<handler> handlers;
  };

  int signal = 0;
  int code = 0;
  std::uint64_t address = 0;
  std::uint64_t instruction = 0;
  std::int64_t seconds = 0;
  std::int64_t nanoseconds = 0;
  std::int64_t pid = 0;
  std::int64_t thread = 0;
  std::string thread_name;
  std::string release;
  std::string folder;
  std::string text;
  std::vector<server> servers;  ///< the innermost first
  std::vector<std::uint64_t> frames;
  std::size_t omitted_at = 0;  ///< so many frames stand before the gap
  std::uint64_t omitted = 0;
  bool by_frame_pointers = false;
  std::vector<mapped_image> images;
  bool faulted = false;
  bool complete = false;
};

/// Errors: corrupt, naming the line; out_of_bounds.
[[nodiscard]] result<crash_raw> parse_crash_raw(std::string_view text);

}  // namespace molt::node
