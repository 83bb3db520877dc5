#define GAP 2
#include "gap.hpp"
