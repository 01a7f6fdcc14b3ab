"""What holds for every test: nothing is timed, and commands tell nothing of their way, so that stderr tells faults."""

from __future__ import annotations

import os

from hypothesis import settings

os.environ.setdefault("NORMEXPORT_QUIET", "1")
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
