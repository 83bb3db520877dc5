// A hash set that grows in small steps: the keys of a steady_map.
#pragma once

#include "plugin/forms.hpp"
#include "plugin/steady_map.hpp"

#include <cstddef>
#include <functional>
#include <iterator>
#include <utility>

namespace molt {

/// As std::unordered_set, without buckets and local iterators. The hash may not throw.
template <class Key, class Hash = std::hash<Key>, class Equal = std::equal_to<Key>>
class steady_set {
  struct nothing {};
  using keys = steady_map<Key, nothing, Hash, Equal>;

 public:
  class const_iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = Key;
    using difference_type = std::ptrdiff_t;
    using reference = const Key&;
    using pointer = const Key*;

    const_iterator() = default;
    reference operator*() const { return at_->first; }
    pointer operator->() const { return &at_->first; }
    const_iterator& operator++() {
      ++at_;
      return *this;
    }
    const_iterator operator++(int) {
      auto before = *this;
      ++at_;
      return before;
    }
    friend bool operator==(const const_iterator& a, const const_iterator& b) { return a.at_ == b.at_; }

   private:
    friend class steady_set;
    explicit const_iterator(typename keys::const_iterator at) : at_{at} {}
    typename keys::const_iterator at_{};
  };
  using iterator = const_iterator;
  using key_type = Key;
  using value_type = Key;
  using size_type = std::size_t;

  [[nodiscard]] std::size_t size() const noexcept { return keys_.size(); }
  [[nodiscard]] bool empty() const noexcept { return keys_.empty(); }
  /// Remembers where the first one is.
  [[nodiscard]] const_iterator begin() noexcept { return const_iterator{keys_.begin()}; }
  [[nodiscard]] const_iterator begin() const noexcept { return const_iterator{keys_.begin()}; }
  [[nodiscard]] const_iterator end() const noexcept { return const_iterator{keys_.end()}; }
  [[nodiscard]] const_iterator find(const Key& key) const { return const_iterator{keys_.find(key)}; }
  [[nodiscard]] bool contains(const Key& key) const { return keys_.contains(key); }
  [[nodiscard]] std::size_t count(const Key& key) const { return keys_.count(key); }

  template <class K>
  std::pair<const_iterator, bool> emplace(K&& key) {
    const auto [made, fresh] = keys_.try_emplace(std::forward<K>(key));
    return {const_iterator{made}, fresh};
  }
  std::pair<const_iterator, bool> insert(const Key& key) { return emplace(key); }
  std::pair<const_iterator, bool> insert(Key&& key) { return emplace(std::move(key)); }
  /// For archives.
  const_iterator emplace_hint(const_iterator, Key&& key) { return emplace(std::move(key)).first; }

  std::size_t erase(const Key& key) { return keys_.erase(key); }
  void clear() noexcept { keys_.clear(); }
  /// Parts for so many, if there is none yet.
  void reserve(std::size_t count) { keys_.reserve(count); }

  friend bool operator==(const steady_set& a, const steady_set& b) {
    if (a.size() != b.size()) return false;
    for (const auto& key : a)
      if (!b.contains(key)) return false;
    return true;
  }

 private:
  keys keys_;
};

namespace detail {

template <class K, class H, class E>
struct native<steady_set<K, H, E>> : hashed<K, H, E> {
  static constexpr form kind = form::set;
  static constexpr std::string_view name{"steady_set"};
  using inside = types<K>;
  static constexpr bool unique = true;
};

}  // namespace detail
}  // namespace molt
