molt_add_fuzz_target(archive_fuzz SOURCES archive_fuzz.cpp LINK molt::plugin CORPUS archive_corpus)
