#define SOAK 2
#include "servers.hpp"
