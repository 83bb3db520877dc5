# The how-to pages show what docs/how-to/examples holds, which tests/upgrade/how_to_test.cpp upgrades and rolls back.
file(GLOB how_to_pages CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/docs/how-to/*.md")
add_test(NAME how_to_pages_show_code_that_is_tested
         COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/how_to/check_listings" "${PROJECT_SOURCE_DIR}/docs/how-to/examples" ${how_to_pages})
# It must find a page that was left behind.
file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/how_to/stale.md" "```cpp file=2.0.0/audit.hpp\nstruct state {\n  int lines = 0;\n};\n```\n")
add_test(NAME how_to_check_fails_on_a_stale_listing
         COMMAND "${CMAKE_CURRENT_SOURCE_DIR}/how_to/check_listings" "${PROJECT_SOURCE_DIR}/docs/how-to/examples"
                 "${CMAKE_CURRENT_BINARY_DIR}/how_to/stale.md")
set_tests_properties(how_to_check_fails_on_a_stale_listing PROPERTIES PASS_REGULAR_EXPRESSION "this does not stand in")
set_tests_properties(how_to_pages_show_code_that_is_tested how_to_check_fails_on_a_stale_listing PROPERTIES LABELS once)
