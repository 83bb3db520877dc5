// Prints name-free facts of every example type, and what the archives of random values of it hash to; compilers that
// agree on layouts must print the same. Each archive must hold the value that was written: else the exit status is 1.
#include "tests/plugin/described_types.hpp"
#include "tests/plugin/memory_archive.hpp"
#include "tests/plugin/random_value.hpp"

#include <cstdio>

bool all_read_back = true;

/// Written, read, and written again.
template <class T>
std::uint64_t archives_of_random_values() {
  const molt_schema& schema = molt::schema_of<T>();
  molt::tests::random random{20261121};
  molt::detail::fnv1a hash;
  for (int i = 0; i < 20; ++i) {
    const T value = molt::tests::random_value<T>(random);
    const std::string bytes = molt::tests::save_bytes(schema, &value);
    hash.text(bytes);
    alignas(T) char storage[sizeof(T)];
    if (molt::tests::load_bytes(schema, storage, bytes) != MOLT_OK) {
      all_read_back = false;
      continue;
    }
    // The elements of an unordered container may come in another order, but are as many.
    all_read_back = all_read_back && molt::tests::save_bytes(schema, storage).size() == bytes.size();
    schema.destroy(storage);
  }
  return hash.value;
}

template <class T>
void print() {
  const molt_schema& schema = molt::schema_of<T>();
  std::printf("%016llx %u %u %u %s\n", static_cast<unsigned long long>(schema.fingerprint), schema.size, schema.align,
              schema.flags, schema.text);
  if constexpr (molt::detail::form_of<T> != molt::detail::form::own)
    std::printf("  archives %016llx\n", static_cast<unsigned long long>(archives_of_random_values<T>()));
}

struct touch {
  using reply = std::string;
  std::unordered_map<std::uint64_t, example::tree> trees;
};

int main() {
  using namespace example;
  print<scalars>();
  print<containers>();
  print<others>();
  print<tree>();
  print<chain>();
  print<outer>();
  print<strange_order>();
  print<forty>();
  print<account>();
  print<geo::grid>();
  print<described_all>();
  print<purse>();
  print<mixed>();
  print<wallet>();
  print<labelled>();
  print<half_described>();
  print<cents>();
  print<sign>();
  print<node>();
  std::printf("%d\n", molt::detail::all_offsets_real<described_all>() ? 1 : 0);
  if (!all_read_back) return 1;
  std::printf("%s %016llx\n", molt::message_of<touch>().name,
              static_cast<unsigned long long>(molt::message_of<touch>().key));
}
