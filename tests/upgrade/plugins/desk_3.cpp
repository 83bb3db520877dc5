#define DESK 3
#include "desk.hpp"
