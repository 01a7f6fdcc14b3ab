"""What an ONNX file is asked to be, whatever it is made from; this module loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from normexport.errors import UsageError

_MOST = 1 << 20  # of any batch that a machine has room for


@dataclass(frozen=True)
class ExportConfig:
    """What the ONNX file that is written shall be.

    Attributes:
        batch: the one batch size that it takes, for networks and runtimes that need it fixed; "dynamic": any, and what
            fixes it is refused; None: any where the source lets it be.

    Raises:
        UsageError: a batch that is neither a size nor "dynamic".
    """

    batch: int | Literal["dynamic"] | None = None

    def __post_init__(self) -> None:
        if self.batch not in (None, "dynamic"):
            is_size = isinstance(self.batch, int) and not isinstance(self.batch, bool)
            if not is_size or not 0 < int(self.batch) <= _MOST:
                raise UsageError(f"--batch {self.batch}", "is not a batch size", "give one, such as 1, or dynamic")
