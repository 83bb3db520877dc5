#define LEDGER 20
#include "ledger.hpp"
