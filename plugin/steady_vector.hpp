// A vector that grows in small steps: no insertion at its end ever moves an element, whatever its size. It is made of
// runs of `run_size` elements.
//
// Invariants: all runs but the last are full, none is empty. References to elements stay valid until they are erased;
// iterators are indices, and stay valid as long as there are as many elements.
// Its layout is shared between images of different versions: a change of it raises MOLT_ABI_VERSION.
#pragma once

#include "plugin/forms.hpp"

#include <compare>
#include <cstddef>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace molt {

namespace detail {

/// Of a container that has `operator[]`.
template <class Owner, class Value>
class index_iterator {
 public:
  using iterator_category = std::random_access_iterator_tag;
  using value_type = std::remove_const_t<Value>;
  using difference_type = std::ptrdiff_t;
  using reference = Value&;
  using pointer = Value*;

  index_iterator() = default;
  index_iterator(Owner& owner, std::size_t at) : owner_{&owner}, at_{static_cast<difference_type>(at)} {}
  reference operator*() const { return (*owner_)[static_cast<std::size_t>(at_)]; }
  pointer operator->() const { return &**this; }
  reference operator[](difference_type n) const { return *(*this + n); }
  index_iterator& operator+=(difference_type n) {
    at_ += n;
    return *this;
  }
  index_iterator& operator-=(difference_type n) { return *this += -n; }
  index_iterator& operator++() { return *this += 1; }
  index_iterator& operator--() { return *this -= 1; }
  index_iterator operator++(int) {
    auto here = *this;
    ++*this;
    return here;
  }
  index_iterator operator--(int) {
    auto here = *this;
    --*this;
    return here;
  }
  friend index_iterator operator+(index_iterator a, difference_type n) { return a += n; }
  friend index_iterator operator+(difference_type n, index_iterator a) { return a += n; }
  friend index_iterator operator-(index_iterator a, difference_type n) { return a -= n; }
  friend difference_type operator-(const index_iterator& a, const index_iterator& b) { return a.at_ - b.at_; }
  friend bool operator==(const index_iterator& a, const index_iterator& b) { return a.at_ == b.at_; }
  friend auto operator<=>(const index_iterator& a, const index_iterator& b) { return a.at_ <=> b.at_; }

 private:
  Owner* owner_ = nullptr;
  difference_type at_ = 0;
};

}  // namespace detail

/// As std::vector at its end; nothing is inserted or erased before it.
template <class T>
class steady_vector {
 public:
  using value_type = T;
  using size_type = std::size_t;
  using run = std::vector<T>;
  using runs = std::vector<std::unique_ptr<run>>;
  using iterator = detail::index_iterator<steady_vector, T>;
  using const_iterator = detail::index_iterator<const steady_vector, const T>;
  static constexpr std::size_t run_size = 128;
  static_assert(!std::is_same_v<T, bool>, "molt: elements of a steady_vector are objects: use char in place of bool");

  steady_vector() = default;
  /// Takes over runs of which all but the last are full.
  explicit steady_vector(runs&& given) noexcept : runs_{std::move(given)} {}
  steady_vector(steady_vector&& other) noexcept : runs_{std::move(other.runs_)} { other.runs_.clear(); }
  steady_vector& operator=(steady_vector&& other) noexcept {
    runs_ = std::move(other.runs_);
    other.runs_.clear();
    return *this;
  }
  steady_vector(const steady_vector& other) {
    runs_.reserve(other.runs_.size());
    for (const auto& each : other.runs_) runs_.push_back(std::make_unique<run>(*each));
  }
  steady_vector& operator=(const steady_vector& other) {
    if (this != &other) *this = steady_vector{other};
    return *this;
  }
  ~steady_vector() = default;
  /// All but the last are full.
  [[nodiscard]] runs taken() && noexcept { return std::exchange(runs_, {}); }

  [[nodiscard]] std::size_t size() const noexcept {
    return runs_.empty() ? 0 : (runs_.size() - 1) * run_size + runs_.back()->size();
  }
  [[nodiscard]] bool empty() const noexcept { return runs_.empty(); }
  [[nodiscard]] T& operator[](std::size_t index) { return (*runs_[index / run_size])[index % run_size]; }
  [[nodiscard]] const T& operator[](std::size_t index) const { return (*runs_[index / run_size])[index % run_size]; }
  [[nodiscard]] T& at(std::size_t index) {
    check(index);
    return (*this)[index];
  }
  [[nodiscard]] const T& at(std::size_t index) const {
    check(index);
    return (*this)[index];
  }
  [[nodiscard]] T& front() { return (*this)[0]; }
  [[nodiscard]] const T& front() const { return (*this)[0]; }
  [[nodiscard]] T& back() { return runs_.back()->back(); }
  [[nodiscard]] const T& back() const { return runs_.back()->back(); }
  [[nodiscard]] iterator begin() { return {*this, 0}; }
  [[nodiscard]] iterator end() { return {*this, size()}; }
  [[nodiscard]] const_iterator begin() const { return {*this, 0}; }
  [[nodiscard]] const_iterator end() const { return {*this, size()}; }

  template <class... Arguments>
  T& emplace_back(Arguments&&... made_of) {
    if (!runs_.empty() && runs_.back()->size() < run_size) {
      auto& last = *runs_.back();
      last.reserve(run_size);  // one that was read from an archive
      return last.emplace_back(std::forward<Arguments>(made_of)...);
    }
    auto fresh = std::make_unique<run>();
    fresh->reserve(run_size);
    fresh->emplace_back(std::forward<Arguments>(made_of)...);
    runs_.push_back(std::move(fresh));
    return back();
  }
  void push_back(const T& value) { emplace_back(value); }
  void push_back(T&& value) { emplace_back(std::move(value)); }
  void pop_back() {
    runs_.back()->pop_back();
    if (runs_.back()->empty()) runs_.pop_back();
  }
  void resize(std::size_t count) {
    while (size() > count) pop_back();
    while (size() < count) emplace_back();
  }
  void clear() noexcept { runs_.clear(); }

  friend bool operator==(const steady_vector& a, const steady_vector& b) requires requires(const T& value) {
    { value == value } -> std::convertible_to<bool>;
  }
  {
    if (a.size() != b.size()) return false;
    for (std::size_t each = 0; each < a.runs_.size(); ++each)
      if (*a.runs_[each] != *b.runs_[each]) return false;
    return true;
  }

 private:
  void check(std::size_t index) const {
    if (index >= size()) throw std::out_of_range{"molt::steady_vector::at: there is no such element"};
  }
  runs runs_;
};

namespace detail {

template <class T>
struct native<steady_vector<T>> : no_functions {
  static constexpr form kind = form::sequence;
  static constexpr std::string_view name{"steady_vector"};
  using inside = types<T>;
};

}  // namespace detail
}  // namespace molt
