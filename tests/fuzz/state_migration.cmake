molt_add_fuzz_target(snapshot_fuzz SOURCES snapshot_fuzz.cpp LINK molt::state_migration CORPUS snapshot_corpus)
