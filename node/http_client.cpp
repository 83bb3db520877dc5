#include "node/http_client.hpp"

#include "node/unix_socket.hpp"

#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <cstdint>

namespace molt::node {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

using stream = beast::basic_stream<asio::local::stream_protocol>;

constexpr std::uint64_t answer_max = std::uint64_t{64} << 20U;
constexpr std::size_t read_size = std::size_t{64} << 10U;
constexpr std::chrono::milliseconds give_up_interval{50};
constexpr std::uint32_t header_max = std::uint32_t{64} << 10U;

error failure(const std::string& path, std::string_view doing, const beast::error_code& code) {
  if (code == beast::error::timeout) return {reason::timeout, path + ": no answer in time"};
  if (code == http::error::body_limit) return {reason::out_of_bounds, path + ": the answer has more than 64 MiB"};
  const bool gone = code == http::error::end_of_stream || code == http::error::partial_message ||
                    code == asio::error::connection_reset || code == asio::error::broken_pipe ||
                    code == asio::error::eof;
  if (gone)
    return {reason::unreachable, path + ": the other side went away without an answer", "look at its status and log"};
  if (code.category() == make_error_code(http::error::bad_version).category())
    return {reason::corrupt, path + ": the answer is not HTTP: " + code.message()};
  return {reason::io, path + ": " + std::string{doing} + ": " + code.message()};
}

}  // namespace

result<http_response> request(const std::string& socket_path, std::string_view method, std::string_view target,
                              std::string_view body, std::chrono::milliseconds timeout,
                              const std::function<bool()>& given_up, bool* reached) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  MOLT_TRY(unique_fd fd, connect_unix(socket_path, SOCK_STREAM, deadline));
  if (reached != nullptr) *reached = true;

  http::request<http::string_body> ask;
  ask.version(11);
  ask.method_string({method.data(), method.size()});
  ask.target({target.data(), target.size()});
  ask.set(http::field::host, "localhost");
  ask.set(http::field::connection, "close");
  if (!body.empty() || method == "POST" || method == "PUT") ask.set(http::field::content_type, "application/json");
  ask.body() = body;
  ask.prepare_payload();
  http::response_parser<http::string_body> answer;
  answer.body_limit(answer_max);
  answer.header_limit(header_max);
  if (method == "HEAD") answer.skip(true);

  asio::io_context context{1};
  asio::local::stream_protocol::socket socket{context};
  beast::error_code failed;
  socket.assign(asio::local::stream_protocol{}, fd.get(), failed);
  if (failed) return failure(socket_path, "connect", failed);
  (void)fd.release();
  stream connection{std::move(socket)};
  connection.expires_at(deadline);
  beast::flat_buffer buffer;
  buffer.reserve(read_size);  // Beast reads as much as there is room for, else 512 bytes at a time
  std::string_view doing = "send";
  // An early answer ("413") may break the sending: read it all the same, and report the sending only if there is none.
  http::async_write(connection, ask, [&](beast::error_code code, std::size_t) {
    failed = code;
    if (code == beast::error::timeout) return;
    http::async_read(connection, buffer, answer, [&](beast::error_code read_code, std::size_t) {
      doing = "receive";
      failed = read_code;
    });
  });
  if (given_up) {
    while (!context.stopped()) {
      context.run_for(give_up_interval);
      if (!context.stopped() && given_up()) return error{reason::stopping, socket_path + ": the request was given up"};
    }
  } else {
    context.run();
  }
  if (failed) return failure(socket_path, doing, failed);
  auto message = answer.release();
  return http_response{message.result_int(), std::move(message.body()),
                       std::string{message[http::field::content_type]}};
}

}  // namespace molt::node
