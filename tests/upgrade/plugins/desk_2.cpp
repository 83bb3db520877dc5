#define DESK 2
#include "desk.hpp"
