#pragma once

#include <molt/plugin.hpp>

#include "catalogue_v1.hpp"

namespace shop::catalogue {

struct product {              // was item: the name of a type is nobody's business but yours
  std::string title;          // was label
  std::int64_t in_stock = 0;  // was cnt
};
struct state {
  std::vector<product> products;  // was list
};

struct add_product {  // was add_item, and is still called that by whoever sends it
  static constexpr std::string_view molt_message_name = "add_item";
  using reply = std::uint64_t;
  std::string label;
};

struct catalogue : molt::server<state> {  // "shop.catalogue" for good
  std::uint64_t handle_call(molt::context&, const add_product& message) {
    self().products.push_back({message.label, 1});
    return self().products.size();
  }

  static state code_change(v1::state&& old) {
    state now;
    now.products.reserve(old.list.size());
    for (auto& item : old.list) now.products.push_back({std::move(item.label), item.cnt});
    return now;
  }
  static v1::state code_change_down(state&& now) {
    v1::state old;
    old.list.reserve(now.products.size());
    for (auto& product : now.products) old.list.push_back({std::move(product.title), product.in_stock});
    return old;
  }
};

}  // namespace shop::catalogue
