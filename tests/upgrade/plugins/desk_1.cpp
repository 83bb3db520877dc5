#define DESK 1
#include "desk.hpp"
