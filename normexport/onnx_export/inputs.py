"""What a model reads: names, shapes and types of its inputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from normexport.errors import UsageError

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_TEXT = re.compile(r"(?:(?P<name>\w+)=)?(?P<shape>\d+(?:x\d+)*|scalar)?(?::(?P<dtype>\w+))?")
DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool")


@dataclass(frozen=True)
class InputSpec:
    """One input of a model.

    Attributes:
        name: name in the ONNX file and the keyword of arrays fed to it.
        shape: without the batch dimension where `batched`, else whole.
        dtype: one of `DTYPES`.
        batched: whether axis 0, not in `shape`, is the batch, free to vary at run time.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    batched: bool = True

    def sized(self, batch: int) -> tuple[int, ...]:
        """The whole shape at this batch size."""
        return (batch, *self.shape) if self.batched else self.shape


def parse_inputs(texts: Sequence[str]) -> tuple[InputSpec, ...]:
    """Specs from `[NAME=]3x28x28[:dtype]`, one text per input, shapes without the batch dimension.

    A single unnamed input is called "input", several are "input_0", "input_1", ... `scalar` is a shape of
    batch alone.

    Raises:
        UsageError: a text that is not of this form, a dimension of 0, an unknown dtype or a name twice.
    """
    specs = []
    for position, text in enumerate(texts):
        match = _TEXT.fullmatch(text.strip())
        if not match or not match["shape"]:
            raise UsageError(f"--input {text}", "is not a shape", "write it as 3x28x28 or name=3x28x28:int64")
        shape = () if match["shape"] == "scalar" else tuple(int(size) for size in match["shape"].split("x"))
        if 0 in shape:
            raise UsageError(f"--input {text}", "has a dimension of 0", "give the shape of one sample")
        dtype = match["dtype"] or "float32"
        if dtype not in DTYPES:
            raise UsageError(f"--input {text}", f"{dtype} is not a known dtype", f"choose one of {', '.join(DTYPES)}")
        name = match["name"] or ("input" if len(texts) == 1 else f"input_{position}")
        specs.append(InputSpec(name, shape, dtype))
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise UsageError("--input", f"a name is given twice: {', '.join(names)}", "name each input once")
    return tuple(specs)


def inputs_of_program(program: ExportedProgram) -> tuple[InputSpec, ...]:
    """The inputs an exported program was made for; an axis 0 of symbolic size is the batch.

    Raises:
        UsageError: an input is not a tensor, or a size other than axis 0 is symbolic.
    """
    import torch

    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    specs = []
    for name in program.graph_signature.user_inputs:
        node = placeholders.get(str(name))  # a number given at export stands here as itself
        value: Any = None if node is None else node.meta.get("val")
        if not isinstance(value, torch.Tensor):
            raise UsageError(f"input {name}", "of the exported program is not a tensor", "export it with tensors only")
        sizes = list(value.shape)
        batched = bool(sizes) and not isinstance(sizes[0], int)
        rest = sizes[1:] if batched else sizes
        if not all(isinstance(size, int) for size in rest):
            raise UsageError(
                f"input {name}", f"has symbolic sizes beyond the batch: {sizes}", "export it with only axis 0 dynamic"
            )
        dtype = str(value.dtype).removeprefix("torch.")
        specs.append(InputSpec(str(name), tuple(int(size) for size in rest), dtype, batched))
    return tuple(specs)
