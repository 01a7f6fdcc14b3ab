"""Fresh names for values and nodes: two of one name are two meanings, and ONNX Runtime opens no such file."""

from __future__ import annotations

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
        name, count = stem, 0
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name
