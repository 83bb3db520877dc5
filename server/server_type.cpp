#include "server/server_type.hpp"

#include "base/assert.hpp"

#include <link.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>

namespace molt::servers {

namespace {

struct search {
  std::uintptr_t address;
  image_range found;
};

int look_at_image(dl_phdr_info* info, std::size_t, void* data) {
  auto& wanted = *static_cast<search*>(data);
  image_range range{UINTPTR_MAX, 0};
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    const auto begin = static_cast<std::uintptr_t>(info->dlpi_addr + segment.p_vaddr);
    range.begin = std::min(range.begin, begin);
    range.end = std::max(range.end, begin + segment.p_memsz);
  }
  if (wanted.address < range.begin || wanted.address >= range.end) return 0;
  wanted.found = range;
  return 1;
}

constexpr std::uint64_t multipliers_tried = 1024;

}  // namespace

image_range find_image(const void* address) {
  search wanted{reinterpret_cast<std::uintptr_t>(address), {}};
  dl_iterate_phdr(look_at_image, &wanted);
  return wanted.found;
}

std::shared_ptr<const server_type> server_type::make(const molt_server_type& abi, std::string version,
                                                     std::shared_ptr<const void> lease, image_range image) {
  if (image.begin == image.end) image = find_image(&abi);
  // Freed memory that is used again in part would look as if somebody held the image.
  const auto overwrite = [](server_type& of) noexcept {
    ::explicit_bzero(of.shortcuts_.data(), sizeof of.shortcuts_);
    if (!of.table_.empty()) ::explicit_bzero(of.table_.data(), of.table_.size() * sizeof(slot));
    ::explicit_bzero(&of.abi_, sizeof of.abi_);
    ::explicit_bzero(&of.image_, sizeof of.image_);
  };
  const auto destroy = [overwrite](server_type* gone) noexcept {
    if (gone->twin_ != nullptr) overwrite(const_cast<server_type&>(*gone->twin_));  // made without const
    overwrite(*gone);
    delete gone;
  };
  auto made = std::shared_ptr<server_type>(new server_type{abi, std::move(version), std::move(lease), image}, destroy);
  made->twin_.reset(new server_type{abi, made->version_, made->lease_, image, made.get()});
  return made;
}

server_type::server_type(const molt_server_type& abi, std::string version, std::shared_ptr<const void> lease,
                         image_range image, const server_type* original)
    : abi_{&abi}, name_{abi.name}, version_{std::move(version)}, lease_{std::move(lease)}, image_{image} {
  index_handlers();
  if (original == nullptr) return;
  original_ = original;
  watched_ = 1;
  shortcuts_ = {};
}

// Looks for a multiplier by which every key gets a slot of its own, in a table at least twice as large as needed; keys
// are hashes already, so that few are tried.
void server_type::index_handlers() {
  unsigned bits = std::max(1U, static_cast<unsigned>(std::bit_width(std::uint64_t{abi_->handler_count} * 2)));
  for (std::uint64_t attempt = 0;; ++attempt) {
    if (attempt == multipliers_tried) {
      attempt = 0;
      ++bits;
      MOLT_ASSERT(bits < 30, "two handlers with one key", name_);
    }
    table_.assign(std::size_t{1} << bits, slot{});
    shift_ = 64 - bits;
    multiplier_ = (attempt * 2 + 1) * 0x9e3779b97f4a7c15ULL;
    bool collides = false;
    for (std::uint32_t i = 0; i < abi_->handler_count && !collides; ++i) {
      const molt_handler& handler = abi_->handlers[i];
      slot& mine = table_[(handler.message->key * multiplier_) >> shift_];
      collides = mine.handler != nullptr && mine.key != handler.message->key;
      if (mine.handler == nullptr) mine = {handler.message->key, &handler};
    }
    if (!collides) break;
  }
  slots_ = table_.data();
  for (std::uint32_t i = 0; i < abi_->handler_count; ++i) {
    const molt_handler& handler = abi_->handlers[i];
    shortcut& mine = shortcuts_[handler.message->key % shortcuts_count];
    if (handler.flags == 0 && mine.handle == nullptr) mine = {handler.message->key, handler.handle};
  }
}

int server_type::show(const void* state, const std::function<void(const void*)>& look, molt_text* error) const {
  if (abi_->format_status == nullptr) {
    look(state);
    return MOLT_OK;
  }
  const molt_schema& schema = *abi_->state;
  void* const shown = allocate_state(schema);
  const int status = abi_->format_status(state, shown, error);
  if (status == MOLT_OK) {
    look(shown);
    schema.destroy(shown);
  }
  free_state(shown, schema);
  return status;
}

const molt_handler* server_type::find(std::string_view message_name) const noexcept {
  for (std::uint32_t i = 0; i < abi_->handler_count; ++i)
    if (message_name == abi_->handlers[i].message->name) return &abi_->handlers[i];
  return nullptr;
}

void* allocate_state(const molt_schema& schema) {
  const std::size_t size = std::max<std::size_t>(schema.size, 1);
  if (schema.align > __STDCPP_DEFAULT_NEW_ALIGNMENT__) return ::operator new (size, std::align_val_t{schema.align});
  return ::operator new(size);
}

void free_state(void* state, const molt_schema& schema) noexcept {
  if (schema.align > __STDCPP_DEFAULT_NEW_ALIGNMENT__)
    ::operator delete (state, std::align_val_t{schema.align});
  else
    ::operator delete(state);
}

}  // namespace molt::servers
