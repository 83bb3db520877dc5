// How each form is written and read: the bodies of output_archive and input_archive. Included by plugin/archive.hpp.
#pragma once

#include "plugin/archive.hpp"

namespace molt {

// -- Writing

template <class T>
void output_archive::save(const T& value) {
  using detail::form;
  constexpr form what = detail::form_of<T>;
  if constexpr (detail::is_nvp<T>) {
    save(value.const_value());
  } else if constexpr (detail::is_boost_number<T>) {
    save_size(static_cast<std::size_t>(value));
  } else if constexpr (detail::is_array_wrapper<T>) {
    for (std::size_t i = 0; i < value.count(); ++i) save(value.address()[i]);
  } else if constexpr (std::is_same_v<T, boost::serialization::binary_object>) {
    save_binary(value.m_t, value.m_size);
  } else if constexpr (what == form::own) {
    const detail::depth_guard deeper{depth_};
    save_size(detail::declared_version<T>());
    detail::call_serialize(*this, const_cast<T&>(value), detail::declared_version<T>());
  } else if constexpr (what == form::record) {
    detail::with_parts(value, [this](const auto&... part) { (this->save(part), ...); });
  } else if constexpr (what == form::unsupported && detail::boost_is_included<T> && std::is_class_v<T>) {
    const detail::depth_guard deeper{depth_};
    save_size(detail::boost_version<T>());
    detail::call_serialize(*this, const_cast<T&>(value), detail::boost_version<T>());
  } else {
    static_assert(
        what != form::unsupported,
        "molt: this type has no archive form: give it serialize(archive, version), or write what it stands for");
    save_native(value);
  }
}

template <class T>
void output_archive::save_native(const T& value) {
  using detail::form;
  constexpr form what = detail::form_of<T>;
  if constexpr (what == form::boolean) {
    save_bytes(static_cast<unsigned char>(value ? 1 : 0));
  } else if constexpr (detail::is_plain<T>) {
    save_bytes(value);
  } else if constexpr (what == form::ref) {
    save_bytes(value.bits);
  } else if constexpr (what == form::reply_to) {
    save_bytes(value.token);
  } else if constexpr (what == form::duration) {
    save(value.count());
  } else if constexpr (what == form::time_point) {
    save(value.time_since_epoch());
  } else if constexpr (what == form::string) {
    save_size(value.size());
    save_binary(value.data(), value.size());
  } else if constexpr (what == form::optional || what == form::pointer) {
    const detail::depth_guard deeper{depth_};
    save(static_cast<bool>(value));
    if (value) save(*value);
  } else if constexpr (what == form::shared) {
    if constexpr (requires { value.lock(); })
      save_shared(value.lock().get());
    else
      save_shared(value.get());
  } else if constexpr (what == form::tuple) {
    std::apply([this](const auto&... element) { (this->save(element), ...); }, value);
  } else if constexpr (what == form::variant) {
    const detail::depth_guard deeper{depth_};
    if (value.valueless_by_exception()) throw std::runtime_error{"a variant holds no value after an exception"};
    save_size(value.index());
    std::visit([this](const auto& alternative) { this->save(alternative); }, value);
  } else if constexpr (what == form::array) {
    for (const auto& element : value) save(element);
  } else if constexpr (what == form::evolving) {
    const detail::depth_guard deeper{depth_};
    value.visit_parts([this](const auto&... part) { (this->save(part), ...); });
  } else {
    save_elements(value);
  }
}

template <class T>
void output_archive::save_shared(const T* object) {
  const detail::depth_guard deeper{depth_};
  if (object == nullptr) return save_size(0);
  const auto [place, is_new] =
      shared_.try_emplace({object, &detail::type_tag<std::remove_const_t<T>>}, shared_.size() + 1);
  save_size(place->second);
  if (is_new) save(*object);
}

template <class T>
void output_archive::save_elements(const T& container) {
  using detail::form;
  const detail::depth_guard deeper{depth_};
  const auto count = static_cast<std::size_t>(std::distance(container.begin(), container.end()));
  if (detail::bytes_min_of(typename detail::native<T>::inside{}) == 0 && count > detail::zero_byte_elements_max)
    throw archive_limit{MOLT_OUT_OF_BOUNDS, "more than 65,536 elements that hold nothing"};
  save_size(count);
  using element = typename T::value_type;
  if constexpr (detail::form_of<T> == form::map) {
    for (const auto& [key, mapped] : container) {
      save(key);
      save(mapped);
    }
  } else if constexpr (requires { container.data(); } && detail::is_plain<element>) {
    save_binary(container.data(), count * sizeof(element));
  } else if constexpr (std::is_same_v<element, bool>) {
    for (const bool one : container) save(one);
  } else {
    for (const auto& one : container) save(one);
  }
}

// -- Reading

template <class T>
void input_archive::load(T& value) {
  using detail::form;
  constexpr form what = detail::form_of<std::remove_const_t<T>>;
  using plain = std::remove_const_t<T>;
  if constexpr (detail::is_nvp<plain>) {
    load(value.value());
  } else if constexpr (detail::is_array_wrapper<plain>) {
    for (std::size_t i = 0; i < value.count(); ++i) load(value.address()[i]);
  } else if constexpr (std::is_same_v<plain, boost::serialization::binary_object>) {
    load_binary(const_cast<void*>(value.m_t), value.m_size);
  } else if constexpr (std::is_const_v<T>) {
    static_assert(!std::is_const_v<T>, "molt: a const object cannot be read from an archive");
  } else if constexpr (std::is_same_v<plain, boost::serialization::collection_size_type>) {
    const std::uint64_t count = load_size();
    // Boost's loaders reserve this much: believe only what the rest could hold, or a modest number of buckets.
    if (count > std::max<std::uint64_t>(bytes_left(), detail::boost_size_believed))
      throw bad_archive{"a size is larger than the bytes left"};
    value = T(static_cast<std::size_t>(count));
  } else if constexpr (std::is_same_v<plain, boost::serialization::item_version_type>) {
    value = T(static_cast<unsigned>(std::min<std::uint64_t>(load_size(), 255)));
  } else if constexpr (what == form::own) {
    const detail::depth_guard deeper{depth_};
    const std::uint64_t version = load_size();
    if (version > detail::declared_version<T>()) throw bad_archive{"written by a newer version of its class"};
    detail::call_serialize(*this, value, static_cast<unsigned>(version));
  } else if constexpr (what == form::record) {
    detail::with_parts(value, [this](auto&... part) { (this->load(part), ...); });
  } else if constexpr (what == form::unsupported && detail::boost_is_included<T> && std::is_class_v<T>) {
    const detail::depth_guard deeper{depth_};
    const std::uint64_t version = load_size();
    if (version > detail::boost_version<T>()) throw bad_archive{"written by a newer version of its class"};
    detail::call_serialize(*this, value, static_cast<unsigned>(version));
  } else {
    static_assert(
        what != form::unsupported,
        "molt: this type has no archive form: give it serialize(archive, version), or read what it stands for");
    load_native(value);
  }
}

template <class T>
void input_archive::load_native(T& value) {
  using detail::form;
  constexpr form what = detail::form_of<T>;
  if constexpr (what == form::boolean) {
    unsigned char byte = 0;
    load_bytes(byte);
    if (byte > 1) throw bad_archive{"a bool is neither 0 nor 1"};
    value = byte == 1;
  } else if constexpr (detail::is_plain<T>) {
    load_bytes(value);
  } else if constexpr (what == form::ref) {
    load_bytes(value.bits);
  } else if constexpr (what == form::reply_to) {
    load_bytes(value.token);
  } else if constexpr (what == form::duration) {
    typename T::rep count{};
    load(count);
    value = T{count};
  } else if constexpr (what == form::time_point) {
    typename T::duration since{};
    load(since);
    value = T{since};
  } else if constexpr (what == form::string) {
    const std::size_t size = load_count(1);
    value.assign(source_.cursor, size);
    source_.cursor += size;
  } else if constexpr (what == form::optional || what == form::pointer) {
    const detail::depth_guard deeper{depth_};
    bool there = false;
    load(there);
    if (!there) {
      value.reset();
    } else {
      if constexpr (what == form::optional)
        value.emplace();
      else
        value = std::make_unique<typename T::element_type>();
      load(*value);
    }
  } else if constexpr (what == form::shared) {
    value = load_shared<std::remove_const_t<typename T::element_type>>();
  } else if constexpr (what == form::tuple) {
    // Boost's loaders read map entries in place, const key included.
    const auto load_one = [this](auto& element) {
      this->load(const_cast<std::remove_const_t<std::remove_reference_t<decltype(element)>>&>(element));
    };
    std::apply([&](auto&... element) { (load_one(element), ...); }, value);
  } else if constexpr (what == form::variant) {
    const detail::depth_guard deeper{depth_};
    load_alternative(value, load_size());
  } else if constexpr (what == form::array) {
    for (auto& element : value) load(element);
  } else if constexpr (what == form::sequence) {
    load_sequence(value);
  } else if constexpr (what == form::evolving) {
    const detail::depth_guard deeper{depth_};
    value.visit_parts([this](auto&... part) { (this->load(part), ...); });
    if (!value.parts_fit()) throw bad_archive{"a key stands twice"};
  } else {
    load_associative(value);
  }
}

template <class T>
std::shared_ptr<T> input_archive::load_shared() {
  const detail::depth_guard deeper{depth_};
  const std::uint64_t number = load_size();
  if (number == 0) return nullptr;
  if (number <= shared_.size()) {
    const auto& known = shared_[static_cast<std::size_t>(number - 1)];
    if (known.type != &detail::type_tag<T>) throw bad_archive{"a shared object is of another type"};
    return std::static_pointer_cast<T>(known.object);
  }
  if (number != shared_.size() + 1) throw bad_archive{"a shared object has not been read yet"};
  auto made = std::make_shared<T>();
  shared_.push_back({made, &detail::type_tag<T>});  // before its contents, which may lead back to it
  load(*made);
  return made;
}

template <class T>
void input_archive::load_sequence(T& value) {
  using element = typename T::value_type;
  const detail::depth_guard deeper{depth_};
  const std::size_t count = load_count(detail::bytes_min<element>());
  value.clear();
  if constexpr (requires { value.data(); } && detail::is_plain<element>) {
    value.resize(count);
    load_binary(value.data(), count * sizeof(element));
  } else {
    // Elements larger in memory than in the archive: grow with what was really read.
    if constexpr (requires { value.reserve(count); })
      value.reserve(std::min(count, 16 * bytes_left() / sizeof(element)));
    for (std::size_t i = 0; i < count; ++i) {
      if constexpr (std::is_same_v<element, bool>) {
        bool one = false;
        load(one);
        value.push_back(one);
      } else {
        load(value.emplace_back());
      }
    }
  }
}

template <class T>
void input_archive::load_associative(T& value) {
  using detail::form;
  constexpr bool mapped = detail::form_of<T> == form::map;
  const detail::depth_guard deeper{depth_};
  const std::size_t count = load_count(detail::bytes_min_of(typename detail::native<T>::inside{}));
  value.clear();
  if constexpr (requires { value.reserve(count); }) value.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    typename T::key_type key{};
    load(key);
    if constexpr (!mapped)
      value.emplace_hint(value.end(), std::move(key));
    else
      load(value
               .emplace_hint(value.end(), std::piecewise_construct, std::forward_as_tuple(std::move(key)),
                             std::tuple<>{})
               ->second);
  }
  if (detail::native<T>::unique && value.size() != count) throw bad_archive{"a key stands twice"};
}

template <class T, std::size_t I>
void input_archive::load_alternative(T& value, std::uint64_t index) {
  if constexpr (I == std::variant_size_v<T>) {
    throw bad_archive{"a variant has no such alternative"};
  } else {
    if (index != I) return load_alternative<T, I + 1>(value, index);
    load(value.template emplace<I>());
  }
}

}  // namespace molt
