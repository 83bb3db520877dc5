// A hash map that grows in small steps: no insertion ever moves more than a few hundred entries, whatever its size.
//
// It is made of parts, each a std::unordered_map of about `part_size` entries, and grows by splitting one part after
// the other (linear hashing: W. Litwin, "Linear hashing: a new tool for file and table addressing", 1980). A
// std::unordered_map of 1,000,000 entries stops for some 20 ms to grow.
//
// Invariants: an entry stands in the part that part_of() says; parts not yet used are null; no part below first_ has an
// entry. References to entries stay valid until the entry is erased; iterators until something is inserted.
// Its layout is shared between images of different versions: a change of it raises MOLT_ABI_VERSION.
#pragma once

#include "plugin/forms.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <stdexcept>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace molt {

/// As std::unordered_map, without buckets and local iterators. The hash may not throw.
template <class Key, class T, class Hash = std::hash<Key>, class Equal = std::equal_to<Key>>
class steady_map {
  using part = std::unordered_map<Key, T, Hash, Equal>;
  using parts = std::vector<std::unique_ptr<part>>;

  template <bool Const>
  class basic_iterator {
    using place = const std::unique_ptr<part>*;
    using inner = std::conditional_t<Const, typename part::const_iterator, typename part::iterator>;

   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = typename part::value_type;
    using difference_type = std::ptrdiff_t;
    using reference = std::conditional_t<Const, const value_type&, value_type&>;
    using pointer = std::conditional_t<Const, const value_type*, value_type*>;

    basic_iterator() = default;
    template <bool Other>
    requires(Const && !Other) basic_iterator(const basic_iterator<Other>& other)  // NOLINT: converts on purpose
        : at_{other.at_}, end_{other.end_}, entry_{other.entry_} {}

    reference operator*() const { return *entry_; }
    pointer operator->() const { return &*entry_; }
    basic_iterator& operator++() {
      if (++entry_ == (*at_)->end()) {
        ++at_;
        settle();
      }
      return *this;
    }
    basic_iterator operator++(int) {
      auto before = *this;
      ++*this;
      return before;
    }
    /// An end stays one whatever is inserted: with evolving containers, begin() may insert after end() was asked for.
    friend bool operator==(const basic_iterator& a, const basic_iterator& b) {
      const bool at_end = a.at_ == a.end_;
      return at_end == (b.at_ == b.end_) && (at_end || a.entry_ == b.entry_);
    }

   private:
    friend class steady_map;
    template <bool>
    friend class basic_iterator;
    basic_iterator(place at, place end) : at_{at}, end_{end} { settle(); }
    basic_iterator(place at, place end, inner entry) : at_{at}, end_{end}, entry_{entry} {}
    void settle() {
      while (at_ != end_ && (*at_ == nullptr || (*at_)->empty())) ++at_;
      if (at_ != end_) entry_ = (*at_)->begin();
    }
    place at_ = nullptr;
    place end_ = nullptr;
    inner entry_{};
  };

 public:
  using key_type = Key;
  using mapped_type = T;
  using value_type = typename part::value_type;
  using hasher = Hash;
  using key_equal = Equal;
  using size_type = std::size_t;
  using iterator = basic_iterator<false>;
  using const_iterator = basic_iterator<true>;

  /// Entries of a part, on the average.
  static constexpr std::size_t part_size = 256;

  steady_map() = default;
  steady_map(steady_map&& other) noexcept
      : parts_{std::move(other.parts_)}, size_{std::exchange(other.size_, 0)}, first_{std::exchange(other.first_, 0)} {}
  steady_map& operator=(steady_map&& other) noexcept {
    parts_ = std::move(other.parts_);
    size_ = std::exchange(other.size_, 0);
    first_ = std::exchange(other.first_, 0);
    other.parts_.clear();
    return *this;
  }
  steady_map(const steady_map& other) : parts_(other.parts_.size()), size_{other.size_}, first_{other.first_} {
    for (std::size_t i = 0; i < parts_.size(); ++i)
      if (other.parts_[i] != nullptr) parts_[i] = std::make_unique<part>(*other.parts_[i]);
  }
  steady_map& operator=(const steady_map& other) {
    if (this != &other) *this = steady_map{other};
    return *this;
  }
  ~steady_map() = default;

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

  [[nodiscard]] iterator begin() noexcept {
    while (first_ < parts_.size() && (parts_[first_] == nullptr || parts_[first_]->empty())) ++first_;
    return {place(first_), place(parts_.size())};
  }
  [[nodiscard]] iterator end() noexcept { return {place(parts_.size()), place(parts_.size())}; }
  [[nodiscard]] const_iterator begin() const noexcept { return {place(first_), place(parts_.size())}; }
  [[nodiscard]] const_iterator end() const noexcept { return {place(parts_.size()), place(parts_.size())}; }

  [[nodiscard]] iterator find(const Key& key) { return find_in<iterator>(*this, key); }
  [[nodiscard]] const_iterator find(const Key& key) const { return find_in<const_iterator>(*this, key); }
  [[nodiscard]] bool contains(const Key& key) const { return find(key) != end(); }
  [[nodiscard]] std::size_t count(const Key& key) const { return contains(key) ? 1 : 0; }
  [[nodiscard]] T& at(const Key& key) { return at_in(*this, key); }
  [[nodiscard]] const T& at(const Key& key) const { return at_in(*this, key); }
  T& operator[](const Key& key) { return try_emplace(key).first->second; }
  T& operator[](Key&& key) { return try_emplace(std::move(key)).first->second; }

  template <class K, class... Arguments>
  std::pair<iterator, bool> try_emplace(K&& key, Arguments&&... made_of) {
    if (parts_.empty()) parts_.resize(1);
    const std::size_t index = part_of(key);
    if (parts_[index] == nullptr) parts_[index] = std::make_unique<part>();
    const auto [entry, fresh] = parts_[index]->try_emplace(std::forward<K>(key), std::forward<Arguments>(made_of)...);
    if (!fresh) return {iterator{place(index), place(parts_.size()), entry}, false};
    ++size_;
    if (index < first_) first_ = index;
    if (size_ <= parts_.size() * part_size) return {iterator{place(index), place(parts_.size()), entry}, true};
    value_type& made = *entry;  // stays where it is
    split();
    return {find(made.first), true};
  }
  template <class K, class Value>
  std::pair<iterator, bool> emplace(K&& key, Value&& value) {
    return try_emplace(std::forward<K>(key), std::forward<Value>(value));
  }
  std::pair<iterator, bool> insert(const value_type& entry) { return try_emplace(entry.first, entry.second); }
  std::pair<iterator, bool> insert(std::pair<Key, T>&& entry) {
    return try_emplace(std::move(entry.first), std::move(entry.second));
  }
  template <class K, class Value>
  std::pair<iterator, bool> insert_or_assign(K&& key, Value&& value) {
    const auto found = find(key);
    if (found == end()) return try_emplace(std::forward<K>(key), std::forward<Value>(value));
    found->second = std::forward<Value>(value);
    return {found, false};
  }

  /// For archives.
  iterator emplace_hint(const_iterator, std::piecewise_construct_t, std::tuple<Key&&> key, std::tuple<>) {
    return try_emplace(std::get<0>(std::move(key))).first;
  }

  std::size_t erase(const Key& key) {
    const auto found = find(key);
    if (found == end()) return 0;
    (*found.at_)->erase(found.entry_);
    --size_;
    return 1;
  }
  /// The one behind it.
  iterator erase(iterator entry) {
    auto next = entry;
    ++next;
    (*entry.at_)->erase(entry.entry_);
    --size_;
    return next;
  }
  void clear() noexcept {
    parts_.clear();
    size_ = 0;
    first_ = 0;
  }
  /// Parts for so many entries, if there is none yet; otherwise it grows as it goes.
  void reserve(std::size_t entries) {
    if (size_ == 0 && parts_.size() <= entries / part_size) parts_.resize(entries / part_size + 1);
  }
  void swap(steady_map& other) noexcept { std::swap(*this, other); }

  friend bool operator==(const steady_map& a, const steady_map& b) {
    if (a.size() != b.size()) return false;
    for (const auto& [key, value] : a) {
      const auto found = b.find(key);
      if (found == b.end() || !(found->second == value)) return false;
    }
    return true;
  }

 private:
  [[nodiscard]] const std::unique_ptr<part>* place(std::size_t index) const noexcept { return parts_.data() + index; }

  static std::uint64_t mixed(const Key& key) { return (Hash{}(key)*0x9e3779b97f4a7c15U) >> 32U; }
  /// Among `count` parts, of which those beyond the last power of two are halves of others.
  static std::size_t part_among(std::uint64_t hash, std::size_t count) noexcept {
    const std::size_t whole = std::bit_floor(count);
    const std::size_t index = hash & (2 * whole - 1);
    return index < count ? index : index & (whole - 1);
  }
  [[nodiscard]] std::size_t part_of(const Key& key) const { return part_among(mixed(key), parts_.size()); }

  template <class Iterator, class Self>
  static Iterator find_in(Self& self, const Key& key) {
    if (self.size_ == 0) return self.end();
    const std::size_t index = self.part_of(key);
    const auto& where = self.parts_[index];
    if (where == nullptr) return self.end();
    const auto found = where->find(key);
    if (found == where->end()) return self.end();
    return Iterator{self.place(index), self.place(self.parts_.size()), found};
  }
  template <class Self>
  static auto& at_in(Self& self, const Key& key) {
    const auto found = self.find(key);
    if (found == self.end()) throw std::out_of_range{"molt::steady_map::at: there is no such key"};
    return found->second;
  }

  /// Moves half of one part to a new one. Without memory it stays as it is, which is only slower.
  void split() noexcept {
    try {
      const std::size_t count = parts_.size();
      const std::size_t from = count - std::bit_floor(count);
      parts_.reserve(count == parts_.capacity() ? 2 * count : count);
      if (parts_[from] == nullptr) {
        parts_.emplace_back();
        return;
      }
      part& old = *parts_[from];
      auto fresh = std::make_unique<part>();
      fresh->reserve(old.size());  // from here on nothing is allocated
      for (auto entry = old.begin(); entry != old.end();) {
        const auto here = entry++;
        if (part_among(mixed(here->first), count + 1) == count) fresh->insert(old.extract(here));
      }
      if (count < first_ && !fresh->empty()) first_ = count;
      parts_.push_back(std::move(fresh));
    } catch (const std::bad_alloc&) {
      return;
    }
  }

  parts parts_;
  std::size_t size_ = 0;
  std::size_t first_ = 0;
};

namespace detail {

template <class K, class T, class H, class E>
struct native<steady_map<K, T, H, E>> : hashed<K, H, E> {
  static constexpr form kind = form::map;
  static constexpr std::string_view name{"steady_map"};
  using inside = types<K, T>;
  static constexpr bool unique = true;
};

}  // namespace detail
}  // namespace molt
