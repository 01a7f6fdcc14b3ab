"""Random numbers in an ONNX graph: what one run proves of it says nothing of the next."""

from __future__ import annotations

import onnx_ir as ir

#: In every reason of this kind, whether a graph or a run gave it.
DRAWS = "draws random numbers"
_RANDOM = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")
)


def random_nodes(model: ir.Model) -> tuple[str, ...]:
    """Nodes of an ONNX model that draw random numbers, in words."""
    nodes = [*model.graph.all_nodes(), *(node for function in model.functions.values() for node in function)]
    return tuple(
        f"{node.name or node.op_type} ({node.op_type}): {DRAWS}"
        for node in nodes
        if node.op_type in _RANDOM or (node.op_type == "Dropout" and _trains(node))
    )


def _trains(dropout: ir.Node) -> bool:
    """Whether a Dropout drops: its third input says so, or is not known before it is run."""
    mode = dropout.inputs[2] if len(dropout.inputs) > 2 else None
    if mode is None:
        return False
    known = ir.convenience.get_const_tensor(mode)
    return known is None or bool(known.numpy().any())


def without_repeats(*reasons: str) -> tuple[str, ...]:
    """The reasons once each; that a model draws numbers is said once, by whoever knows where."""
    drawn = [reason for reason in reasons if DRAWS in reason]
    best = min(drawn, key=lambda reason: reason.startswith("the model"), default="")
    return tuple(dict.fromkeys(reason for reason in reasons if DRAWS not in reason or reason == best))
