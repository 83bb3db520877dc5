// The same work done with other libraries, in this process. Each returns seconds; pool sizes are as for molt.
#pragma once

#include <cstddef>
#include <cstdint>

namespace peers {

namespace asio {
double sleeping_calls(std::int64_t count);  // one a millisecond; their median, times `count`
double calls(std::int64_t count);           // a strand on a pool thread, one caller that waits for each reply
double casts(std::int64_t count);           // posted by this thread, run by a pool thread
double pingpong(std::int64_t rounds);       // two strands that post to each other
}  // namespace asio

namespace caf {
double calls(std::int64_t count);
double sleeping_calls(std::int64_t count);
double server_to_server(std::int64_t count);
double casts(std::int64_t count);
double casts_by_2(std::int64_t count);
double pingpong(std::int64_t rounds);
double spawn(std::int64_t count, std::size_t& bytes);  // bytes: of memory that they took together
}  // namespace caf

/// Resident memory of this process.
std::size_t resident_bytes();

}  // namespace peers
