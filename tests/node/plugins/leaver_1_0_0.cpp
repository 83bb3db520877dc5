#define GENERATION 1
#include "leaver.hpp"

MOLT_PLUGIN("leaver", "1.0.0", leaver::server)
