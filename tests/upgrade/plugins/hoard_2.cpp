#define HOARD 2
#include "hoard.hpp"
