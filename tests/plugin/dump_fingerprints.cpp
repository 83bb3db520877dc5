// Prints name-free facts of every example type; compilers that agree on layouts must print the same.
#include "tests/plugin/described_types.hpp"

#include <cstdio>

template <class T>
void print() {
  const molt_schema& schema = molt::schema_of<T>();
  std::printf("%016llx %u %u %u %s\n", static_cast<unsigned long long>(schema.fingerprint), schema.size, schema.align,
              schema.flags, schema.text);
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
  std::printf("%s %016llx\n", molt::message_of<touch>().name,
              static_cast<unsigned long long>(molt::message_of<touch>().key));
}
