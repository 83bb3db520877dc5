molt_add_fuzz_target(note_fuzz SOURCES note_fuzz.cpp LINK molt::loader CORPUS note_corpus)
molt_add_fuzz_target(elf_fuzz SOURCES elf_fuzz.cpp LINK molt::loader CORPUS elf_corpus)
