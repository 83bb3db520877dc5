#define SOAK 2
#define SOAK_BROKEN
#include "servers.hpp"
