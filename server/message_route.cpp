#include "server/message_route.hpp"

#include "plugin/text.hpp"
#include "server/growing_sink.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

namespace molt::servers {

namespace {

bool over_aligned(const molt_schema& schema) noexcept { return schema.align > __STDCPP_DEFAULT_NEW_ALIGNMENT__; }

int run_step(const conversion_step& step, void* from, void* to, const molt_change& change, molt_text* error) noexcept {
  if (step.hook != nullptr) return step.hook->apply(from, to, &change, error);
  growing_sink written;
  int status = step.from->save(from, &written, error);
  molt_source read = written.written();
  if (status == MOLT_OK) status = step.to->load(to, &read, error);
  return status == MOLT_OUT_OF_BOUNDS ? MOLT_OVERLOADED : status;
}

// "v1::add to add: " before what the hook has said.
void name_step(const conversion_step& step, molt_text* error) noexcept {
  if (error == nullptr) return;
  char text[MOLT_TEXT_CAPACITY];
  std::size_t size = 0;
  const auto append = [&](std::string_view part) {
    const auto fits = std::min(part.size(), sizeof text - size);
    std::memcpy(text + size, part.data(), fits);
    size += fits;
  };
  append("converting ");
  append(step.from->name);
  append(" to ");
  append(step.to->name);
  append(": ");
  append(text_of(*error));
  std::memcpy(error->data, text, size);
  error->size = static_cast<std::uint32_t>(size);
}

}  // namespace

conversion_storage::~conversion_storage() { clear(); }

void conversion_storage::clear() noexcept {
  if (memory_ == nullptr) return;
  if (holds_object_) schema_->destroy(memory_);
  if (over_aligned(*schema_))
    ::operator delete (memory_, std::align_val_t{schema_->align});
  else
    ::operator delete(memory_);
  memory_ = nullptr;
  holds_object_ = false;
}

bool conversion_storage::reserve(const molt_schema& schema) noexcept {
  clear();
  const std::size_t size = std::max<std::size_t>(schema.size, 1);
  schema_ = &schema;
  memory_ = over_aligned(schema) ? ::operator new (size, std::align_val_t{schema.align}, std::nothrow)
                                 : ::operator new(size, std::nothrow);
  return memory_ != nullptr;
}

void conversion_storage::swap(conversion_storage& other) noexcept {
  std::swap(schema_, other.schema_);
  std::swap(memory_, other.memory_);
  std::swap(holds_object_, other.holds_object_);
}

int convert(const conversion& how, void* from, void* to_storage, molt_text* error) noexcept {
  const molt_change change{how.from_version.c_str(), how.to_version.c_str(), how.arguments, nullptr, nullptr};
  conversion_storage between;  // what the step before has made
  for (std::size_t i = 0; i < how.steps.size(); ++i) {
    const conversion_step& step = how.steps[i];
    const bool last = i + 1 == how.steps.size();
    conversion_storage made;
    if (!last && !made.reserve(*step.to)) {
      set_text(error, "no memory");
      name_step(step, error);
      return MOLT_OVERLOADED;
    }
    if (error != nullptr) error->size = 0;
    const int status = run_step(step, from, last ? to_storage : made.get(), change, error);
    if (status != MOLT_OK) {
      name_step(step, error);
      return status == MOLT_OVERLOADED ? MOLT_OVERLOADED : MOLT_THREW;
    }
    if (last) return MOLT_OK;
    made.constructed();
    between.swap(made);
    from = between.get();
  }
  return MOLT_OK;
}

const message_route* route_cache::find(const server_type& receiver, std::uint64_t message,
                                       std::uint64_t answered) const noexcept {
  for (const entry* each = first_[bucket_of(message, answered)].load(std::memory_order_acquire); each != nullptr;
       each = each->next)
    if (each->message == message && each->receiver == &receiver && each->answered == answered) return &each->route;
  return nullptr;
}

const message_route* route_cache::add(const server_type& receiver, std::uint64_t message, std::uint64_t answered,
                                      message_route route) noexcept {
  std::lock_guard lock{mutex_};
  if (const auto* const known = find(receiver, message, answered)) return known;
  if (count_ == routes_max) return nullptr;
  auto& first = first_[bucket_of(message, answered)];
  const auto* const added =
      new (std::nothrow) entry{&receiver, message, answered, std::move(route), first.load(std::memory_order_relaxed)};
  if (added == nullptr) return nullptr;
  ++count_;
  first.store(added, std::memory_order_release);
  return &added->route;
}

void route_cache::clear() noexcept {
  for (auto& first : first_)
    for (const entry* each = first.exchange(nullptr, std::memory_order_relaxed); each != nullptr;)
      delete std::exchange(each, each->next);
  count_ = 0;
}

}  // namespace molt::servers
