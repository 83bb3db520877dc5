# molt-node alone, as a process.
if(TARGET molt-node)
  get_property(plugins GLOBAL PROPERTY node_plugins)
  molt_add_test(node_process_test SOURCES node_test.cpp LINK molt::node Boost::json TIMEOUT 300 COST 60 LABELS slow
                DEFINITIONS "MOLT_NODE=\"$<TARGET_FILE:molt-node>\"" DEPENDS molt-node ${plugins})
  target_include_directories(node_process_test PRIVATE "${PROJECT_BINARY_DIR}/tests/node/include")
endif()
