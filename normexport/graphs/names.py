"""Fresh names for values and nodes: two of one name are two meanings, and ONNX Runtime opens no such file."""

from __future__ import annotations

from collections.abc import Container
from itertools import chain, count

import onnx_ir as ir


class Names:
    """The names of a graph's values and nodes, those of subgraphs too, and any new one taken from here."""

    def __init__(self, graph: ir.Graph) -> None:
        self._taken = {value.name for value in [*graph.inputs, *graph.initializers.values()] if value.name}
        for node in graph.all_nodes():
            self._taken.update(
                value.name for value in [*node.outputs, *node.inputs] if value is not None and value.name
            )
            if node.name:
                self._taken.add(node.name)
        for inner in graph.subgraphs():
            self._taken.update(value.name for value in [*inner.inputs, *inner.initializers.values()] if value.name)

    def fresh(self, stem: str) -> str:
        """A value or node name nobody has, from `stem`."""
        name = fresh_name(stem, self._taken)
        self._taken.add(name)
        return name


def fresh_name(stem: str, taken: Container[str | None], mark: str = "_", first: int = 1) -> str:
    """`stem`, or with the first number from `first` on behind `mark` that makes it a name not `taken`."""
    numbered = (f"{stem}{mark}{number}" for number in count(first))
    return next(name for name in chain([stem], numbered) if name not in taken)
