#define GAP 1
#include "gap.hpp"
