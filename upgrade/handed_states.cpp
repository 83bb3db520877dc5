#include "upgrade/handed_states.hpp"

#include "plugin/schema_text.hpp"
#include "plugin/storage.hpp"
#include "plugin/text.hpp"

#include <new>
#include <utility>

namespace molt::upgrade {
namespace {

int refuse(int status, molt_text* error, std::string_view why) noexcept {
  set_text(error, why);
  return status;
}

bool are_code_free(const molt_schema& a, const molt_schema& b) noexcept {
  return (a.flags & b.flags & MOLT_SCHEMA_CODE_FREE) != 0;
}

std::string names_of(const started_servers& all) {
  std::string text;
  for (const auto& [name, type] : all) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

}  // namespace

std::string what_differs(const molt_schema& is, const molt_schema& wanted) {
  std::string text = std::string{"it is a "} + is.name + ", and not a " + wanted.name;
  const auto changes = describe_difference(is.text, wanted.text, wanted.name);
  for (std::size_t n = 0; n < changes.size(); ++n) text += (n == 0 ? ": " : "; ") + changes[n];
  return text;
}

handed_states::object::~object() {
  if (storage != nullptr) destroy_and_free(*schema, storage);
}

state_view handed_states::object::view() const noexcept {
  return {schema, storage, archive != nullptr ? archive->bytes() : std::string_view{}};
}

handed_states::handed_states(finder find, std::shared_ptr<const servers::release> into, std::string release_id,
                             std::optional<started_servers> starts, bool replaces)
    : find_{std::move(find)},
      into_{std::move(into)},
      release_id_{std::move(release_id)},
      starts_{std::move(starts)},
      replaces_{replaces} {}

handed_states::~handed_states() { clear(); }

void handed_states::clear() noexcept {
  const std::lock_guard lock{mutex_};
  given_.clear();
  converted_.clear();
}

// ---- What hooks read

int handed_states::other(const char* name, const molt_schema& as, const void** state, molt_text* error) noexcept {
  try {
    return find_other(name, as, state, error);
  } catch (const std::bad_alloc&) {
    return refuse(MOLT_OUT_OF_BOUNDS, error, "out of memory");
  }
}

int handed_states::find_other(std::string_view name, const molt_schema& as, const void** state, molt_text* error) {
  *state = nullptr;
  auto found = find_(name);
  if (!found) return refuse(MOLT_REFUSED, error, found.error().text());
  if (!*found) return MOLT_OK;
  const auto& view = **found;
  if (view.schema->fingerprint != as.fingerprint) return refuse(MOLT_REFUSED, error, what_differs(*view.schema, as));
  if (view.object != nullptr && (view.schema == &as || are_code_free(*view.schema, as))) {
    *state = view.object;
    return MOLT_OK;
  }
  auto& known = converted_[std::string{name}];
  if (known == nullptr || known->schema != &as) {
    auto made = std::make_unique<object>();
    made->schema = &as;
    void* const storage = allocate_storage(as);
    if (storage == nullptr) throw std::bad_alloc{};
    if (const int status = load(view, as, storage, error); status != MOLT_OK) {
      free_storage(as, storage);
      return status;
    }
    made->storage = storage;
    known = std::move(made);
  }
  *state = known->storage;
  return MOLT_OK;
}

int handed_states::load(const state_view& from, const molt_schema& as, void* storage, molt_text* error) noexcept {
  if (from.object == nullptr) return migration::load_all(as, from.archive, storage, *error);
  migration::archive_buffer bytes;
  if (const int status = bytes.save(*from.schema, from.object, *error); status != MOLT_OK) return status;
  return migration::load_all(as, bytes.bytes(), storage, *error);
}

// ---- What hooks give

int handed_states::give(const char* name, const molt_schema& of, void* state, molt_text* error) noexcept {
  try {
    return keep(name, of, state, error);
  } catch (const std::bad_alloc&) {
    return refuse(MOLT_OUT_OF_BOUNDS, error, "out of memory");
  }
}

int handed_states::keep(std::string_view name, const molt_schema& of, void* state, molt_text* error) {
  const std::lock_guard lock{mutex_};
  if (given_.contains(name)) return refuse(MOLT_NAME_TAKEN, error, "it was given a state before");
  if (!replaces_) {
    const auto runs = find_(name);
    if (!runs || *runs)
      return refuse(MOLT_NAME_TAKEN, error, "it runs, and a state is given to servers that the release starts");
  }
  if (const int status = check_receiver(name, of, state, error); status != MOLT_OK) return status;
  auto made = std::make_unique<object>();
  made->schema = &of;
  if (of.move != nullptr) {
    void* const storage = allocate_storage(of);
    if (storage == nullptr) throw std::bad_alloc{};
    of.move(storage, state);
    made->storage = storage;
  } else {
    made->archive = std::make_unique<migration::archive_buffer>();
    if (const int status = made->archive->save(of, state, *error); status != MOLT_OK) return status;
  }
  given_.emplace(name, std::move(made));
  return MOLT_OK;
}

int handed_states::check_receiver(std::string_view name, const molt_schema& of, const void* state,
                                  molt_text* error) const {
  if (!starts_)
    return refuse(MOLT_NOT_FOUND, error, "whoever switches to " + release_id_ + " starts no servers with it");
  const auto found = starts_->find(name);
  if (found == starts_->end())
    return refuse(MOLT_NOT_FOUND, error,
                  release_id_ + " starts no server of that name; it starts: " + names_of(*starts_));
  const auto* const type = into_->find_type(found->second);
  if (type == nullptr) return refuse(MOLT_NOT_FOUND, error, release_id_ + " has no type " + found->second);
  const auto& wanted = *type->abi().state;
  if (wanted.fingerprint != of.fingerprint) return refuse(MOLT_REFUSED, error, what_differs(of, wanted));
  if (type->abi().self_check == nullptr || (&wanted != &of && !are_code_free(wanted, of))) return MOLT_OK;
  error->size = 0;
  if (type->abi().self_check(state, error) == MOLT_OK) return MOLT_OK;
  return refuse(MOLT_REFUSED, error, "self_check of " + found->second + ": " + std::string{text_of(*error)});
}

// ---- What starting servers take

int handed_states::take(std::string_view name, std::string_view type, const molt_schema& as, void* storage,
                        molt_text* error) noexcept {
  const std::lock_guard lock{mutex_};
  const auto found = given_.find(name);
  if (found == given_.end() || found->second->taken) return MOLT_NOT_FOUND;
  if (starts_)
    if (const auto wanted = starts_->find(name); wanted != starts_->end() && wanted->second != type)
      return MOLT_NOT_FOUND;
  const auto view = found->second->view();
  try {
    if (view.schema->fingerprint != as.fingerprint) return refuse(MOLT_REFUSED, error, what_differs(*view.schema, as));
  } catch (const std::bad_alloc&) {
    return refuse(MOLT_REFUSED, error, "it has another structure");
  }
  const int status = load(view, as, storage, error);
  if (status == MOLT_OK) found->second->taken = true;
  return status;
}

int handed_states::copy_to(std::string_view name, const molt_schema& as, void* storage,
                           molt_text* error) const noexcept {
  const std::lock_guard lock{mutex_};
  const auto found = given_.find(name);
  if (found == given_.end() || found->second->schema->fingerprint != as.fingerprint) return MOLT_NOT_FOUND;
  return load(found->second->view(), as, storage, error);
}

std::optional<state_view> handed_states::find_given(std::string_view name) const {
  const std::lock_guard lock{mutex_};
  const auto found = given_.find(name);
  return found == given_.end() ? std::nullopt : std::optional{found->second->view()};
}

bool handed_states::is_untaken(std::string_view name) const {
  const std::lock_guard lock{mutex_};
  const auto found = given_.find(name);
  return found != given_.end() && !found->second->taken;
}

std::vector<std::string> handed_states::given() const {
  const std::lock_guard lock{mutex_};
  std::vector<std::string> names;
  for (const auto& [name, state] : given_) names.push_back(name);
  return names;
}

std::vector<std::string> handed_states::not_taken() const {
  const std::lock_guard lock{mutex_};
  std::vector<std::string> names;
  for (const auto& [name, state] : given_)
    if (!state->taken) names.push_back(name);
  return names;
}

void handed_states::settle(std::string_view name) {
  const std::lock_guard lock{mutex_};
  if (const auto found = given_.find(name); found != given_.end()) found->second->taken = true;
}

}  // namespace molt::upgrade
