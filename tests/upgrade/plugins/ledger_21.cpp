#define LEDGER 21
#include "ledger.hpp"
