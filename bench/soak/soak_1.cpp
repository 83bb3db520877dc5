#define SOAK 1
#include "servers.hpp"
