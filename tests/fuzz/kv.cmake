molt_add_fuzz_target(resp_fuzz SOURCES resp_fuzz.cpp LINK molt::plugin CORPUS resp_corpus)
