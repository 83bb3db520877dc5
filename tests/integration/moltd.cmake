if(TARGET molt AND TARGET moltd AND TARGET molt-node AND TARGET molt_fixtures)
  molt_add_test(moltd_test SOURCES moltd_test.cpp moltd_faults_test.cpp moltd_interrupted_test.cpp
    LINK molt::node molt_fixtures Boost::json
    DEFINITIONS "MOLT=\"$<TARGET_FILE:molt>\"" "MOLTD=\"$<TARGET_FILE:moltd>\"" "MOLT_NODE=\"$<TARGET_FILE:molt-node>\""
                "ECHO_PLUGIN_FOLDER=\"${PROJECT_BINARY_DIR}/tests/releases/plugins\""
                "DESK_PLUGIN_FOLDER=\"${PROJECT_BINARY_DIR}/tests/upgrade/plugins\""
    DEPENDS molt moltd molt-node releases_echo_1.0.0 releases_echo_2.0.0 upgrade_desk_1 upgrade_desk_3
    TIMEOUT 300)
  molt_add_test(crashes_test SOURCES crashes_test.cpp
    LINK molt::node molt_fixtures Boost::json
    DEFINITIONS "MOLT=\"$<TARGET_FILE:molt>\"" "MOLTD=\"$<TARGET_FILE:moltd>\"" "MOLT_NODE=\"$<TARGET_FILE:molt-node>\""
                "ECHO_PLUGIN_FOLDER=\"${PROJECT_BINARY_DIR}/tests/releases/plugins\""
    DEPENDS molt moltd molt-node releases_echo_1.0.0 releases_echo_2.0.0
    TIMEOUT 300)
endif()
