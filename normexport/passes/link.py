"""One node that is a per-channel map, whatever it was written as."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from normexport.passes.affine import PerChannel


@dataclass(frozen=True, eq=False)
class Link:
    """`node` computes map(input `data`) on axis 1.

    kind: "l1", ..., "batchnorm" for a node that is a norm by itself, "chain" for one step of a raw chain.
    counts: whether it makes a chain a norm. Lone additions are biases, lone scalars are arithmetic.
    """

    node: ir.Node
    data: int
    map: PerChannel
    kind: str
    counts: bool = True

    @property
    def input(self) -> ir.Value:
        """The value it reads."""
        value = self.node.inputs[self.data]
        assert value is not None
        return value

    @property
    def output(self) -> ir.Value:
        """The value it makes."""
        return self.node.outputs[0]
