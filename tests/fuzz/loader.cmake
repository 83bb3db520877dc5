molt_add_fuzz_target(note_fuzz SOURCES note_fuzz.cpp LINK molt::loader CORPUS note_corpus)
