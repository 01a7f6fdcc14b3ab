"""What holds for every test: commands say nothing of their way, so that what stands on stderr went wrong."""

from __future__ import annotations

import os

os.environ.setdefault("NORMEXPORT_QUIET", "1")
