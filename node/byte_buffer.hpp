// Bytes on their way in or out of a socket: appended at the end, taken from the front, no memory while empty.
//
// Invariant: begin_ <= end_ <= capacity_. A buffer emptied by consume() owns no memory, so that 10,000 idle connections
// cost nothing.
#pragma once

#include "base/assert.hpp"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

namespace molt::node {

/// Grows by doubling through realloc, which for large blocks moves pages instead of copying bytes.
/// Threading: one thread.
class byte_buffer {
 public:
  byte_buffer() = default;
  byte_buffer(byte_buffer&& other) noexcept { swap(other); }
  byte_buffer& operator=(byte_buffer&& other) noexcept {
    byte_buffer{std::move(other)}.swap(*this);
    return *this;
  }
  ~byte_buffer() { std::free(data_); }

  [[nodiscard]] std::string_view bytes() const noexcept { return {data_ + begin_, end_ - begin_}; }
  [[nodiscard]] std::size_t size() const noexcept { return end_ - begin_; }
  [[nodiscard]] bool empty() const noexcept { return begin_ == end_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

  /// Room for at least `more` bytes behind the last; false when there is no memory. `room` says how many there are.
  [[nodiscard]] char* prepare(std::size_t more, std::size_t& room) noexcept {
    if (capacity_ - end_ < more && !make_room(more)) return nullptr;
    room = capacity_ - end_;
    return data_ + end_;
  }
  void commit(std::size_t size) noexcept {
    MOLT_ASSERT(size <= capacity_ - end_, size);
    end_ += size;
  }
  [[nodiscard]] bool append(const char* data, std::size_t size) noexcept {
    if (size == 0) return true;
    std::size_t room = 0;
    char* to = prepare(size, room);
    if (to == nullptr) return false;
    std::memcpy(to, data, size);
    end_ += size;
    return true;
  }
  /// Takes from the front; the last byte's going frees the memory.
  void consume(std::size_t size) noexcept {
    MOLT_ASSERT(size <= this->size(), size, this->size());
    begin_ += size;
    if (begin_ == end_) clear();
  }
  /// As consume, but an emptied buffer keeps its memory: for one that is shared out by its loop.
  void take(std::size_t size) noexcept {
    MOLT_ASSERT(size <= this->size(), size, this->size());
    begin_ += size;
    if (begin_ == end_) begin_ = end_ = 0;
  }
  void clear() noexcept { byte_buffer{}.swap(*this); }

  void swap(byte_buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(begin_, other.begin_);
    std::swap(end_, other.end_);
    std::swap(capacity_, other.capacity_);
  }

 private:
  static constexpr std::size_t first_capacity = 512;

  [[nodiscard]] bool make_room(std::size_t more) noexcept {
    const std::size_t used = size();
    if (begin_ > 0 && begin_ >= used && capacity_ - used >= more) {  // moving costs no more than what was taken before
      std::memmove(data_, data_ + begin_, used);
      begin_ = 0;
      end_ = used;
      return true;
    }
    std::size_t wanted = capacity_ == 0 ? first_capacity : capacity_ * 2;
    while (wanted - end_ < more) wanted *= 2;
    char* grown = static_cast<char*>(std::realloc(data_, wanted));
    if (grown == nullptr) return false;
    data_ = grown;
    capacity_ = wanted;
    return true;
  }

  char* data_ = nullptr;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace molt::node
