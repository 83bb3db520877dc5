// A session's life, all on the server's one I/O thread but for the handler:
//
//   state      event                 next
//   reading    whole request         handling (the handler runs on the pool)
//              bad request           writing, then closed
//              timeout, peer gone    closed
//              room is needed        leaving, if of those reading it has been at it longest
//   leaving    what it had sent is a whole request          handling; it is closed after the answer
//              it is not             closed
//   handling   answer                writing
//   writing    written               reading, or closed without keep-alive or when the server stops
//
// Room is needed when a connection comes in and connections_max are there: so clients that say nothing, or too little,
// cannot keep others out. With those that leave or are told that there is no room, twice as many are there at most;
// further ones wait in the socket's backlog until one has gone.
//
// Invariant: a request that is whole when it is sent is never cut off, be it in our hands, in a completion that has not
// run yet, or in the socket's buffer. Who is to leave has its receiving side shut down: from then on the client cannot
// send (EPIPE), and what it had sent before can still be read.
#include "node/http_server.hpp"

#include "node/api_error.hpp"
#include "node/unix_socket.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <optional>
#include <thread>
#include <unordered_set>

namespace molt::node {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

using stream = beast::basic_stream<asio::local::stream_protocol>;
using acceptor = asio::local::stream_protocol::acceptor;

constexpr auto accept_retry = std::chrono::milliseconds{100};  // after EMFILE and the like
constexpr std::size_t read_size = std::size_t{64} << 10U;
constexpr auto stopping_write = std::chrono::milliseconds{2'000};

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0 || (high == 0 && low == 0)) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

/// Splits "/v1/servers?limit=5" into path and query; false when it is no such thing.
bool read_target(std::string_view target, http_request& into) {
  if (target.empty() || target.front() != '/') return false;
  const auto question = target.find('?');
  auto path = percent_decoded(target.substr(0, question));
  if (!path) return false;
  into.path = std::move(*path);
  std::string_view rest = question == std::string_view::npos ? std::string_view{} : target.substr(question + 1);
  while (!rest.empty()) {
    const auto end = rest.find('&');
    const auto pair = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    const auto equals = pair.find('=');
    auto key = percent_decoded(pair.substr(0, equals));
    auto value = percent_decoded(equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1));
    if (!key || !value) return false;
    into.query.emplace_back(std::move(*key), std::move(*value));
  }
  return true;
}

http_response refusal(unsigned status, reason why, std::string message) {
  http_response response = error_response(error{why, std::move(message)});
  response.status = status;
  return response;
}

}  // namespace

class http_server::implementation {
 public:
  implementation(unique_fd fd, std::string path, handler handle, http_server_options options)
      : handle_{std::move(handle)},
        options_{std::move(options)},
        file_{path.empty() ? socket_file{} : socket_file::of(path)},
        acceptor_{context_, asio::local::stream_protocol{}, fd.release()} {
    for (const unsigned threads : options_.lanes) lanes_.push_back(std::make_unique<asio::thread_pool>(threads));
    accept();
    thread_ = std::thread{[this] { context_.run(); }};
  }

  implementation(const implementation&) = delete;
  implementation& operator=(const implementation&) = delete;

  ~implementation() {
    asio::post(context_, [this] { stop(); });
    for (const auto& lane : lanes_) lane->join();
    work_.reset();  // run() ends when the last session has
    thread_.join();
    file_.remove();
  }

  [[nodiscard]] std::size_t connections() const noexcept { return count_.load(std::memory_order_relaxed); }

 private:
  class session;

  void accept() {
    acceptor_.async_accept([this](beast::error_code failed, stream::socket_type socket) {
      if (stopping_) return;
      if (!failed) {
        admit(std::move(socket));
        accepting_ = sessions_.size() < 2 * options_.connections_max;  // else further ones wait in the backlog
        if (accepting_) accept();
        return;
      }
      retry_.expires_after(accept_retry);
      retry_.async_wait([this](beast::error_code) {
        if (!stopping_) accept();
      });
    });
  }

  void admit(stream::socket_type socket);
  void left(const session&);
  [[nodiscard]] std::size_t staying() const noexcept { return sessions_.size() - leaving_; }
  [[nodiscard]] asio::thread_pool& lane_for(const http_request& request) {
    const std::size_t lane = options_.lane_of ? options_.lane_of(request) : 0;
    return *lanes_.at(lane);
  }
  void make_room();
  void stop();

  // Constant after construction.
  handler handle_;
  http_server_options options_;
  socket_file file_;
  // The I/O thread's.
  asio::io_context context_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_{context_.get_executor()};
  acceptor acceptor_;
  asio::steady_timer retry_{context_};
  std::unordered_set<session*> sessions_;
  std::size_t leaving_ = 0;  // of them
  bool accepting_ = true;
  bool stopping_ = false;
  // Any thread's.
  std::vector<std::unique_ptr<asio::thread_pool>> lanes_;
  std::atomic<std::size_t> count_{0};
  std::thread thread_;
};

class http_server::implementation::session : public std::enable_shared_from_this<session> {
 public:
  session(implementation& server, stream::socket_type socket) : server_{server}, stream_{std::move(socket)} {
    server_.sessions_.insert(this);
    server_.count_.fetch_add(1, std::memory_order_relaxed);
  }
  session(const session&) = delete;
  session& operator=(const session&) = delete;
  ~session() {
    if (leaving_) --server_.leaving_;
    server_.left(*this);
  }

  void read() {
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(server_.options_.header_max));
    parser_->body_limit(server_.options_.body_max);
    stream_.expires_after(server_.options_.request_timeout);
    reading_ = true;
    since_ = std::chrono::steady_clock::now();
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](beast::error_code failed, std::size_t) {
                              if (failed) return self->read_failed(failed);
                              self->continue_if_expected();
                            });
  }

  /// Answers once, without reading, then closes: for a connection over the limit.
  void turn_away(http_response response) {
    keep_alive_ = false;
    write(std::move(response));
  }

  [[nodiscard]] bool may_leave() const noexcept { return reading_ && !leaving_; }
  [[nodiscard]] std::chrono::steady_clock::time_point since() const noexcept { return since_; }

  /// Reading goes on with what the client has sent so far, and then meets the end.
  void leave() {
    leaving_ = true;
    ++server_.leaving_;
    beast::error_code ignored;
    stream_.socket().shutdown(asio::socket_base::shutdown_receive, ignored);
  }

  void stop() {
    keep_alive_ = false;
    if (reading_) {
      stream_.cancel();
    } else if (answering_) {
      stream_.expires_after(stopping_write);
    }
  }

 private:
  void continue_if_expected() {
    if (!beast::iequals(parser_->get()[http::field::expect], "100-continue")) return read_body();
    static constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(stream_, asio::buffer(go_on.data(), go_on.size()),
                      [self = shared_from_this()](beast::error_code failed, std::size_t) {
                        if (!failed) self->read_body();
                      });
  }

  void read_body() {
    stream_.expires_after(server_.options_.body_timeout);
    buffer_.reserve(read_size);  // Beast reads as much as there is room for, else 512 bytes at a time
    http::async_read(stream_, buffer_, *parser_, [self = shared_from_this()](beast::error_code failed, std::size_t) {
      if (failed) return self->read_failed(failed);
      self->handle();
    });
  }

  void read_failed(beast::error_code failed) {
    reading_ = false;
    keep_alive_ = false;
    if (leaving_) return;
    if (failed == http::error::header_limit || failed == http::error::buffer_overflow)
      return write(refusal(431, reason::out_of_bounds, "the request's header is too long"));
    if (failed == http::error::body_limit)
      return write(refusal(413, reason::out_of_bounds,
                           "the request's body has more than " + std::to_string(server_.options_.body_max) + " bytes"));
    const bool gone = failed == http::error::end_of_stream || failed == http::error::partial_message;
    if (!gone && failed.category() == beast::error_code{http::error::bad_version}.category())
      return write(refusal(400, reason::invalid_argument, "no HTTP request: " + failed.message()));
    // Timed out, cancelled, or the client went away: nothing to say and nobody to say it to.
  }

  void handle() {
    reading_ = false;
    if (server_.stopping_) return;
    auto message = parser_->release();
    parser_.reset();
    keep_alive_ = message.keep_alive() && !leaving_;
    head_only_ = message.method() == http::verb::head;
    auto request = std::make_shared<http_request>();
    request->method = std::string{message.method_string()};
    const auto target = message.target();
    if (!read_target({target.data(), target.size()}, *request)) {
      keep_alive_ = false;
      return write(refusal(400, reason::invalid_argument, "the request's target is no path"));
    }
    request->body = std::move(message.body());
    stream_.expires_never();
    // The session lives, and with it its socket, until the handler has returned.
    request->client_gone = [socket = stream_.socket().native_handle()] {
      pollfd look{socket, 0, 0};
      return ::poll(&look, 1, 0) > 0 && (look.revents & (POLLHUP | POLLERR)) != 0;
    };
    asio::post(server_.lane_for(*request), [self = shared_from_this(), request]() mutable {
      auto response = std::make_shared<http_response>(self->answer(*request));
      request.reset();
      auto& context = self->server_.context_;
      asio::post(context, [self = std::move(self), response] { self->write(std::move(*response)); });
    });
  }

  /// On a pool thread.
  [[nodiscard]] http_response answer(const http_request& request) const {
    try {
      return server_.handle_(request);
    } catch (const std::exception& thrown) {
      return error_response(error{reason::internal, request.path + ": " + thrown.what()});
    } catch (...) {
      return error_response(error{reason::internal, request.path + ": the handler threw"});
    }
  }

  void write(http_response from) {
    answering_ = true;
    response_.emplace();
    response_->result(from.status);
    response_->version(11);
    response_->set(http::field::content_type, from.content_type);
    response_->set(http::field::cache_control, "no-store");
    keep_alive_ = keep_alive_ && !server_.stopping_;
    response_->keep_alive(keep_alive_);
    response_->content_length(from.body.size());
    if (!head_only_) response_->body() = std::move(from.body);
    stream_.expires_after(server_.stopping_ ? stopping_write : server_.options_.write_timeout);
    http::async_write(stream_, *response_, [self = shared_from_this()](beast::error_code failed, std::size_t) {
      self->answering_ = false;
      self->response_.reset();
      if (failed) return;
      if (self->keep_alive_ && !self->server_.stopping_) return self->read();
      self->linger();
    });
  }

  /// Ends our direction and reads what the client still sends, so that it gets the answer and not a reset.
  void linger() {
    beast::error_code ignored;
    stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
    stream_.expires_after(std::min<std::chrono::milliseconds>(stopping_write, server_.options_.request_timeout));
    since_ = std::chrono::steady_clock::now();
    if (!server_.stopping_) drain();
  }
  void drain() {
    reading_ = true;
    stream_.async_read_some(asio::buffer(scrap_), [self = shared_from_this()](beast::error_code failed, std::size_t) {
      if (!failed && !self->server_.stopping_) self->drain();
    });
  }

  implementation& server_;
  stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::optional<http::response<http::string_body>> response_;
  std::array<char, 4096> scrap_;
  std::chrono::steady_clock::time_point since_;  ///< when it began to wait for a request, or for the client's end
  bool reading_ = false;
  bool leaving_ = false;
  bool answering_ = false;
  bool keep_alive_ = false;
  bool head_only_ = false;
};

void http_server::implementation::admit(stream::socket_type socket) {
  if (options_.check_peer && !peer_is_ours(socket.native_handle())) return;
  if (staying() >= options_.connections_max) make_room();
  const bool full = staying() >= options_.connections_max;
  auto admitted = std::make_shared<session>(*this, std::move(socket));
  if (full) return admitted->turn_away(refusal(503, reason::overloaded, "too many connections; try again later"));
  admitted->read();
}

/// Before the session is gone.
void http_server::implementation::left(const session& gone) {
  sessions_.erase(const_cast<session*>(&gone));
  count_.fetch_sub(1, std::memory_order_relaxed);
  if (accepting_ || stopping_) return;
  accepting_ = true;
  accept();
}

/// Only when connections are short: so its cost, one look at each, is nobody's but the server's.
void http_server::implementation::make_room() {
  session* longest = nullptr;
  for (session* each : sessions_)
    if (each->may_leave() && (longest == nullptr || each->since() < longest->since())) longest = each;
  if (longest != nullptr) longest->leave();
}

void http_server::implementation::stop() {
  stopping_ = true;
  beast::error_code ignored;
  acceptor_.close(ignored);
  retry_.cancel();
  for (session* each : std::unordered_set<session*>{sessions_}) each->stop();
}

http_server::http_server(std::unique_ptr<implementation> made) noexcept : implementation_{std::move(made)} {}
http_server::~http_server() = default;

std::size_t http_server::connections() const noexcept { return implementation_->connections(); }

result<std::unique_ptr<http_server>> http_server::listen(const std::string& path, handler handle,
                                                         http_server_options options) {
  MOLT_TRY(unique_fd fd, listen_unix(path, SOCK_STREAM));
  return std::unique_ptr<http_server>{
      new http_server{std::make_unique<implementation>(std::move(fd), path, std::move(handle), std::move(options))}};
}

result<std::unique_ptr<http_server>> http_server::adopt(int fd, handler handle, http_server_options options) {
  unique_fd owned{fd};
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0) return system_error("listening socket");
  if (listening == 0) return error{reason::invalid_argument, "the descriptor is no listening socket"};
  return std::unique_ptr<http_server>{new http_server{
      std::make_unique<implementation>(std::move(owned), std::string{}, std::move(handle), std::move(options))}};
}

}  // namespace molt::node
