#define HOARD 3
#include "hoard.hpp"
