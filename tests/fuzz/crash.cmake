molt_add_fuzz_target(crash_fuzz SOURCES crash_fuzz.cpp LINK molt::node Boost::json CORPUS crash_corpus)
