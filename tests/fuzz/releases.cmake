molt_add_fuzz_target(manifest_fuzz SOURCES manifest_fuzz.cpp LINK molt::releases CORPUS manifest_corpus)
molt_add_fuzz_target(package_fuzz SOURCES package_fuzz.cpp LINK molt::releases CORPUS package_corpus)
