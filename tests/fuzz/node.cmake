molt_add_fuzz_target(server_api_fuzz SOURCES server_api_fuzz.cpp LINK molt::node molt::server molt::plugin Boost::json CORPUS server_api_corpus)
