#define GENERATION 2
#include "leaver.hpp"

MOLT_PLUGIN("leaver", "2.0.0", leaver::server)
