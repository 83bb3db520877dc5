// The servers that the how-to pages change, after the change: a page a header.
#include "accounts.hpp"
#include "audit.hpp"
#include "catalogue.hpp"
#include "sessions.hpp"
#include "stock.hpp"

MOLT_PLUGIN("shop", "2.0.0", shop::accounts::accounts, shop::catalogue::catalogue, shop::stock::stock,
            shop::audit::audit, sessions::server)
