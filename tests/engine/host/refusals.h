// What the plugin must refuse: each is tried, and told in one line, "name: what was logged".
#pragma once

#include "library.h"

void try_refusals(const Library& library);
