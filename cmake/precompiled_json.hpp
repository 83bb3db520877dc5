// The same for what is about Boost.JSON too.
#pragma once

#include "cmake/precompiled.hpp"

#include <boost/json.hpp>
