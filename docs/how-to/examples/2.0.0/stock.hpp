#pragma once

#include <molt/plugin.hpp>

#include "stock_v1.hpp"

namespace shop::stock {

struct piece {
  std::int64_t count = 0;
  std::uint64_t place = 0;  // in the vector of 1.x, which goes back in that order
};
struct state {
  std::unordered_map<std::string, piece> pieces;
};

struct put {
  using reply = std::int64_t;
  std::string name;
  std::int64_t pieces = 0;
};

struct stock : molt::server<state> {
  std::int64_t handle_call(molt::context&, const put& message) {
    auto& pieces = self().pieces;
    return pieces.try_emplace(message.name, piece{0, pieces.size()}).first->second.count += message.pieces;
  }

  static state code_change(v1::state&& old) {
    state now;
    now.pieces.reserve(old.entries.size());
    for (auto& entry : old.entries)
      if (!now.pieces.try_emplace(std::move(entry.name), piece{entry.pieces, now.pieces.size()}).second)
        throw std::runtime_error{"the stock has " + entry.name + " twice"};
    return now;
  }
  static v1::state code_change_down(state&& now) {
    v1::state old;
    old.entries.resize(now.pieces.size());
    for (auto& [name, piece] : now.pieces) old.entries.at(piece.place) = {name, piece.count};
    return old;
  }
};

}  // namespace shop::stock
