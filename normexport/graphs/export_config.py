"""What an ONNX file is asked to be, whatever it is made from; this module loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from normexport.errors import UsageError

#: The operator sets that a file can be asked for: 17 is that of TensorRT 8.6 and ONNX Runtime 1.12.
LOWEST, HIGHEST = 17, 23
_MOST = 1 << 20  # of any batch that a machine has room for


@dataclass(frozen=True)
class ExportConfig:
    """What the ONNX file that is written shall be.

    Attributes:
        batch: the one batch size that it takes, for networks and runtimes that need it fixed; "dynamic": any, and what
            fixes it is refused; None: any where the source lets it be.
        opset: the operator set, 17 to 23, with the oldest file format that it goes with, for runtimes that know no
            newer one; None: 20, or that of the ONNX file.
        input_names, output_names: what its inputs and outputs are called, in their order; empty: as the source calls
            them, or as `--input` does.

    Raises:
        UsageError: a batch that is neither a size nor "dynamic", an operator set that is not among these, a name
            that is empty or given twice.
    """

    batch: int | Literal["dynamic"] | None = None
    opset: int | None = None
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.batch not in (None, "dynamic"):
            is_size = isinstance(self.batch, int) and not isinstance(self.batch, bool)
            if not is_size or not 0 < int(self.batch) <= _MOST:
                raise UsageError(f"--batch {self.batch}", "is not a batch size", "give one, such as 1, or dynamic")
        if self.opset is not None and (type(self.opset) is not int or not LOWEST <= self.opset <= HIGHEST):
            raise UsageError(f"--opset {self.opset}", "is not one to write", f"give {LOWEST} to {HIGHEST}")
        for option, names in (("--input-names", self.input_names), ("--output-names", self.output_names)):
            if isinstance(names, str) or not all(isinstance(name, str) for name in names):
                raise UsageError(f"{option} {names!r}", "is no sequence of names", "give a tuple of them")
            if not all(name.strip() == name and name.isprintable() and name for name in names):
                raise UsageError(f"{option} {','.join(names)!r}", "has an empty or unreadable name", "write it as a,b")
        both = [*self.input_names, *self.output_names]
        twice = next((name for name in both if both.count(name) > 1), None)
        if twice is not None:
            option = "--output-names" if twice in self.output_names else "--input-names"
            raise UsageError(f"{option} {twice}", "is given twice", "name each input and output by itself")
