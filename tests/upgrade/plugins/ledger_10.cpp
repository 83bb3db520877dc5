#define LEDGER 10
#include "ledger.hpp"
