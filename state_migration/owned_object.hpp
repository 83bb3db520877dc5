// An object of a schema in memory of its own: destroyed with its owner, if it was made.
#pragma once

#include "plugin/abi.h"
#include "plugin/storage.hpp"

#include <new>

namespace molt::migration {

/// Threading: as the object's. The schema's image must stay mapped as long as this lives.
class owned_object {
 public:
  /// Storage alone; somebody makes the object in it, and then calls made(). Throws std::bad_alloc.
  explicit owned_object(const molt_schema& schema) : schema_{schema}, storage_{allocate_storage(schema)} {
    if (storage_ == nullptr) throw std::bad_alloc{};
  }
  owned_object(const owned_object&) = delete;
  owned_object& operator=(const owned_object&) = delete;
  ~owned_object() {
    if (made_) schema_.destroy(storage_);
    free_storage(schema_, storage_);
  }
  [[nodiscard]] void* storage() const noexcept { return storage_; }
  void made() noexcept { made_ = true; }

 private:
  const molt_schema& schema_;
  void* storage_;
  bool made_ = false;
};

}  // namespace molt::migration
