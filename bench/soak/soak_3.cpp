#define SOAK 3
#include "servers.hpp"
