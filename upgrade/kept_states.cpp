#include "upgrade/kept_states.hpp"

#include "plugin/storage.hpp"
#include "plugin/text.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <map>
#include <new>
#include <utility>

namespace molt::upgrade {
namespace {

constexpr std::string_view loss_prefix = "since=";

std::string said(const molt_text& text) { return std::string{text_of(text)}; }

std::uint64_t checksum_of(std::string_view bytes) noexcept { return std::hash<std::string_view>{}(bytes); }

std::optional<second> parse_second(const std::string& text) {
  std::tm parts{};
  char utc = 0;
  if (std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d%c", &parts.tm_year, &parts.tm_mon,  // NOLINT(cert-err34-c)
                  &parts.tm_mday, &parts.tm_hour, &parts.tm_min, &parts.tm_sec, &utc) != 7)
    return std::nullopt;
  parts.tm_year -= 1900;
  parts.tm_mon -= 1;
  const second made{std::chrono::seconds{::timegm(&parts)}};
  if (to_text(made) != text) return std::nullopt;  // the 31st of February
  return made;
}

}  // namespace

std::string to_text(second time) {
  const std::time_t at = time.time_since_epoch().count();
  std::tm parts{};
  ::gmtime_r(&at, &parts);
  char text[32];
  text[std::strftime(text, sizeof text - 1, "%Y-%m-%dT%H:%M:%SZ", &parts)] = '\0';
  return text;
}

std::string loss_since(second time) { return std::string{loss_prefix} + to_text(time); }

bool is_loss_since(std::string_view name) noexcept { return name.starts_with(loss_prefix); }

result<std::optional<second>> accepted_since(std::span<const std::string> names) {
  std::optional<second> earliest;
  for (const auto& name : names) {
    if (!is_loss_since(name)) continue;
    const auto time = parse_second(name.substr(loss_prefix.size()));
    if (!time) return error{reason::invalid_argument, name + " names no time", "as in " + loss_since(second{})};
    earliest = earliest ? std::min(*earliest, *time) : *time;
  }
  return earliest;
}

result<kept_states::archive> kept_states::keep(const servers::resting_server& server) {
  try {
    entry made;
    made.type = &server.type().abi();
    const auto written = std::make_shared<migration::archive_buffer>();
    text_buffer text;
    if (const int status = written->save(*made.type->state, server.state(), text); status != MOLT_OK)
      return error{status == MOLT_OUT_OF_BOUNDS ? reason::out_of_bounds : reason::hook_failed,
                   text.size != 0 ? said(text) : "no memory to keep the state"};
    written->shrink();
    made.archive = written;
    made.checksum = checksum_of(made.archive->bytes());
    made.at = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
    made.kept = std::chrono::steady_clock::now();
    auto& shard = shard_of(server.ref());
    const std::scoped_lock lock{shard.mutex};
    const auto bytes = made.archive->bytes().size();
    const auto at = made.at.time_since_epoch().count();
    const auto [place, added] = shard.of.try_emplace(server.ref().bits);
    if (bytes_.fetch_add(bytes) + bytes > bytes_max_) {
      bytes_ -= bytes;
      if (added) shard.of.erase(place);
      return error{reason::out_of_bounds, "what is kept of all servers would be more than " +
                                              std::to_string(bytes_max_) + " bytes (keep_states_mb)"};
    }
    if (added) {
      ++servers_;
    } else {
      bytes_ -= place->second.archive->bytes().size();
    }
    for (auto oldest = since_.load(); at < oldest && !since_.compare_exchange_weak(oldest, at);) {
    }
    place->second = std::move(made);
    return archive{written};
  } catch (const std::bad_alloc&) {
    return error{reason::out_of_bounds, "no memory to keep the state"};
  }
}

void kept_states::forget(molt_ref server) noexcept {
  auto& shard = shard_of(server);
  const std::scoped_lock lock{shard.mutex};
  const auto found = shard.of.find(server.bits);
  if (found == shard.of.end()) return;
  --servers_;
  bytes_ -= found->second.archive->bytes().size();
  shard.of.erase(found);
}

std::optional<second> kept_states::since(molt_ref server, const molt_server_type& as) const noexcept {
  const auto& shard = shard_of(server);
  const std::scoped_lock lock{shard.mutex};
  const auto found = shard.of.find(server.bits);
  if (found == shard.of.end() || found->second.type != &as) return std::nullopt;
  return found->second.at;
}

std::chrono::seconds kept_states::lost(molt_ref server) const noexcept {
  const auto& shard = shard_of(server);
  const std::scoped_lock lock{shard.mutex};
  const auto found = shard.of.find(server.bits);
  if (found == shard.of.end()) return {};
  return std::chrono::ceil<std::chrono::seconds>(std::chrono::steady_clock::now() - found->second.kept);
}

result<void*> kept_states::make(molt_ref server, const molt_server_type& as) const {
  const auto& shard = shard_of(server);
  const std::scoped_lock lock{shard.mutex};
  const auto found = shard.of.find(server.bits);
  if (found == shard.of.end() || found->second.type != &as) return error{reason::not_found, "nothing was kept of it"};
  const auto& kept = found->second;
  if (checksum_of(kept.archive->bytes()) != kept.checksum)
    return error{reason::corrupt, "what was kept of it has been written over"};
  void* const storage = allocate_storage(*as.state);
  if (storage == nullptr) return error{reason::out_of_bounds, "no memory for what was kept of it"};
  text_buffer text;
  const int status = migration::load_all(*as.state, kept.archive->bytes(), storage, text);
  if (status == MOLT_OK) return storage;
  free_storage(*as.state, storage);
  return error{status == MOLT_BAD_ARCHIVE ? reason::corrupt : reason::hook_failed,
               "what was kept of it cannot be read" + (text.size != 0 ? ": " + said(text) : "")};
}

std::string_view kept_states::archive_of(molt_ref server) const noexcept {
  const auto& shard = shard_of(server);
  const std::scoped_lock lock{shard.mutex};
  const auto found = shard.of.find(server.bits);
  return found == shard.of.end() ? std::string_view{} : found->second.archive->bytes();
}

kept_summary kept_states::summary() const noexcept {
  kept_summary all;
  all.servers = servers_;
  all.bytes = bytes_;
  if (all.servers != 0) all.since = second{std::chrono::seconds{since_}};
  return all;
}

std::vector<kept_summary> kept_states::by_type() const {
  std::map<const molt_server_type*, kept_summary> types;
  for (const auto& shard : shards_) {
    const std::scoped_lock lock{shard.mutex};
    for (const auto& [ref, kept] : shard.of) {
      auto& of = types[kept.type];
      of.since = of.servers == 0 ? kept.at : std::min(of.since, kept.at);
      ++of.servers;
      of.bytes += kept.archive->bytes().size();
    }
  }
  std::vector<kept_summary> all;
  for (auto& [type, of] : types) {
    of.type = type->name;
    all.push_back(std::move(of));
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.type < b.type; });
  return all;
}

}  // namespace molt::upgrade
