// A host that records what a server asks of it, for tests of the SDK alone.
#pragma once

#include "plugin/abi.h"
#include "plugin/context.hpp"

#include <functional>
#include <map>
#include <new>
#include <string>
#include <string_view>
#include <vector>

namespace molt::tests {

class fake_host {
 public:
  fake_host() {
    host_.abi_version = MOLT_ABI_VERSION;
    host_.size = sizeof host_;
    host_.call = [](molt_context* c, molt_ref to, const molt_message* message, void*, void* reply,
                    std::int64_t timeout) {
      fake_host& self = of(c);
      self.log.push_back("call " + std::string{message->name} + " " + std::to_string(to.bits) + " " +
                         std::to_string(timeout));
      if (to.bits != self.alive) return static_cast<int>(MOLT_NO_SUCH_SERVER);
      if (self.call_status != MOLT_OK) {
        self.failure_.size = 3;
        std::copy_n("why", 3, self.failure_.data);
        return self.call_status;
      }
      if (self.make_reply) self.make_reply(reply);
      return static_cast<int>(MOLT_OK);
    };
    host_.call_failure = [](molt_context* c) -> const molt_text* { return &of(c).failure_; };
    host_.cast = [](molt_context* c, molt_ref to, const molt_message* message, void*) {
      of(c).log.push_back("cast " + std::string{message->name} + " " + std::to_string(to.bits));
      return static_cast<int>(to.bits == of(c).alive ? MOLT_OK : MOLT_NO_SUCH_SERVER);
    };
    host_.lookup = [](molt_context* c, const char* name, std::size_t size) {
      of(c).log.push_back("lookup " + std::string{name, size});
      return molt_ref{of(c).alive};
    };
    host_.start = [](molt_context* c, const char* type, const char* name, const molt_arguments* given,
                     molt_ref* started, molt_text*) {
      std::string line = "start " + std::string{type} + " " + name;
      for (std::size_t i = 0; i < given->count; ++i)
        line += std::string{" "} + given->items[i].key + "=" + given->items[i].value;
      of(c).log.push_back(line);
      started->bits = 77;
      return static_cast<int>(MOLT_OK);
    };
    host_.stop = [](molt_context* c, molt_ref which, const char* why) {
      of(c).log.push_back("stop " + std::to_string(which.bits) + " " + why);
      return static_cast<int>(MOLT_OK);
    };
    host_.send_after = [](molt_context* c, molt_ref to, std::int64_t delay, const molt_message* message, void*) {
      of(c).log.push_back("send_after " + std::to_string(delay) + " " + message->name + " " + std::to_string(to.bits));
      return std::uint64_t{5};
    };
    host_.cancel = [](molt_context*, std::uint64_t id) { return id == 5 ? 1 : 0; };
    host_.defer = [](molt_context*) { return std::uint64_t{42}; };
    host_.reply = [](molt_context* c, std::uint64_t token, const molt_schema* schema, void*) {
      of(c).log.push_back("reply " + std::to_string(token) + " " + schema->text);
      return static_cast<int>(token == 42 ? MOLT_OK : MOLT_NOT_FOUND);
    };
    host_.write = [](molt_context* c, const char* data, std::size_t size) {
      of(c).output.append(data, size);
      return static_cast<int>(MOLT_OK);
    };
    host_.close = [](molt_context* c) { of(c).log.emplace_back("close"); };
    host_.output_pending = [](molt_context* c) { return of(c).output.size(); };
    host_.log = [](molt_context* c, int level, const char* text, std::size_t size) {
      of(c).log.push_back("log " + std::to_string(level) + " " + std::string{text, size});
    };
    host_.monotonic_ns = [](molt_context*) { return std::int64_t{1'000}; };
    host_.wall_clock_ns = [](molt_context*) { return std::int64_t{2'000'000'000}; };
    host_.continue_with = [](molt_context* c, const molt_message* message, void*) {
      of(c).log.push_back(std::string{"continue_with "} + message->name);
      return static_cast<int>(MOLT_OK);
    };
    host_.stop_self = [](molt_context* c, const char* why) { of(c).log.push_back(std::string{"stop_self "} + why); };
    host_.monitor = [](molt_context* c, molt_ref other) {
      of(c).log.push_back("monitor " + std::to_string(other.bits));
      return std::uint64_t{6};
    };
    host_.demonitor = [](molt_context*, std::uint64_t id) { return id == 6 ? 1 : 0; };
    host_.link = [](molt_context* c, molt_ref other) {
      return static_cast<int>(other.bits == of(c).alive ? MOLT_OK : MOLT_NO_SUCH_SERVER);
    };
    host_.unlink = [](molt_context*, molt_ref) { return static_cast<int>(MOLT_NOT_FOUND); };
    host_.join = [](molt_context* c, const char* group, std::size_t size) {
      of(c).log.push_back("join " + std::string{group, size});
      return static_cast<int>(MOLT_OK);
    };
    host_.leave = [](molt_context*, const char*, std::size_t) { return static_cast<int>(MOLT_NOT_FOUND); };
    host_.members = [](molt_context* c, const char*, std::size_t, molt_ref* to, std::size_t capacity) {
      for (std::size_t i = 0; i < of(c).members && i < capacity; ++i) to[i].bits = i == 0 ? of(c).alive : 1000 + i;
      return of(c).members;
    };
    host_.send_every = [](molt_context* c, molt_ref to, std::int64_t period, const molt_message* message, void*) {
      of(c).log.push_back("send_every " + std::to_string(period) + " " + message->name + " " + std::to_string(to.bits));
      return std::uint64_t{5};
    };
    host_.offload = [](molt_context* c, const molt_work* work, void* object) {
      // Moved, run and destroyed as the real one does, but at once.
      void* const moved = ::operator new (work->size, std::align_val_t{work->align});
      work->move(moved, object);
      void* const payload =
          ::operator new (work->message->payload->size, std::align_val_t{work->message->payload->align});
      molt_text text{};
      const int status = work->run(moved, payload, &text);
      of(c).log.push_back(std::string{"offload "} + work->message->name + " " + std::to_string(status) + " " +
                          std::string{text.data, text.size});
      if (status == MOLT_OK) {
        if (of(c).look_at_offloaded) of(c).look_at_offloaded(payload);
        work->message->payload->destroy(payload);
      }
      ::operator delete (payload, std::align_val_t{work->message->payload->align});
      work->destroy(moved);
      ::operator delete (moved, std::align_val_t{work->align});
      return static_cast<int>(MOLT_OK);
    };
    host_.owner = this;
    abi_ = molt_context{&host_, molt_ref{9}};
  }
  fake_host(const fake_host&) = delete;
  fake_host& operator=(const fake_host&) = delete;

  [[nodiscard]] molt_context* abi() { return &abi_; }

  std::vector<std::string> log;
  std::string output;
  std::uint64_t alive = 3;
  int call_status = MOLT_OK;
  void (*make_reply)(void*) = nullptr;
  std::size_t members = 0;
  std::function<void(const void* payload)> look_at_offloaded;

 private:
  struct owned_host : molt_host {
    fake_host* owner = nullptr;
  };
  static fake_host& of(molt_context* c) { return *static_cast<const owned_host*>(c->host)->owner; }

  owned_host host_{};
  molt_context abi_{};
  molt_text failure_{};
};

}  // namespace molt::tests
