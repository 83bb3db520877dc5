// The reckoning at the end: every server is asked what it has seen, and it is compared with what was sent.
#pragma once

#include "bench/soak/clients.hpp"

#include <cstdint>

namespace soak {

/// Waits until nothing is under way any more, then looks at every server. The clients are stopped.
void audit_all(box&, const clients&, verdict&);

}  // namespace soak
