"""The emulation's helpers (layouts, references) serve the plugin's tests too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "emulation"))
