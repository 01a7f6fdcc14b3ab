"""The verb `prove`: judge a candidate by a capsule, without the checkpoint and without torch."""

from __future__ import annotations

from normexport.capsule.proving import prove

__all__ = ["prove"]
