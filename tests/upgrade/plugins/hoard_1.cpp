#define HOARD 1
#include "hoard.hpp"
