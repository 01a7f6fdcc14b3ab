// Whether the workspace that a plugin asks for at build time is enough for every shape of the profile.
#pragma once

#include "library.h"

void try_workspaces(const Library& library);
