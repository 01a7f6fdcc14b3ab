"""Ways to break the fold, one rule at a time: each must be noticed."""

from __future__ import annotations

from tests.mutation import Mutation


def _producer(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "folding/into_producer.py", old, new)


def _consumer(claim: str, old: str, new: str) -> Mutation:
    return Mutation(claim, "folding/into_consumer.py", old, new)


GROUPS = "np.repeat(values.reshape(groups, per_group), rows // groups, axis=0)"
TILED = "np.tile(values.reshape(groups, per_group), (rows // groups, 1))"

MUTATIONS = (
    # ---- into the producer
    _producer(
        "a convolution is scaled by A, not by 1/A",
        "_scale_weight(node, weight, norm.a.reshape(shape),",
        "_scale_weight(node, weight, 1.0 / norm.a.reshape(shape),",
    ),
    _producer(
        "the old bias of a convolution is scaled too",
        "new = scale * old + shift\n    if bias is None and",
        "new = old + shift\n    if bias is None and",
    ),
    _producer(
        "B enters a convolution's bias with its own sign",
        "new = scale * old + shift\n    if bias is None and",
        "new = scale * old - shift\n    if bias is None and",
    ),
    _producer("output channels of a transposed convolution are group-major", GROUPS, TILED),
    _producer(
        "transB decides which axis of a Gemm's weight holds the outputs",
        'columns = 0 if node.attributes.get_int("transB", 0) else 1',
        "columns = 1",
    ),
    _producer(
        "a Gemm's weight is scaled by columns of op(W)",
        "shape = (-1, 1) if columns == 0 else (1, -1)",
        "shape = (1, -1)",
    ),
    _producer("a Gemm's C is scaled by A", "new = scale * old + shift / beta", "new = old + shift / beta"),
    _producer("B is divided by a Gemm's beta", "new = scale * old + shift / beta", "new = scale * old + shift"),
    _producer("a layer's axis is the norm's", "if norm.axis != axis:", "if False:"),
    _producer("a MatMul works on the last axis", "    return rank - 1\n", "    return 1\n"),
    _producer("one value for all channels is spread", "return norm.spread(channels, axis)", "return norm"),
    _producer(
        "MatMul gets B in an Add behind it",
        "return with_shift(node, norm.b, rewrites, draft)",
        "return with_shift(node, 0 * norm.b, rewrites, draft)",
    ),
    # ---- into the consumer
    _consumer("input channels of a grouped convolution are group-major", GROUPS, TILED),
    _consumer(
        "a convolution that reads the norm is scaled by A, not by 1/A",
        "_scale_weight(node, weight * by_row(norm.a),",
        "_scale_weight(node, weight / by_row(norm.a),",
    ),
    _consumer(
        "B is summed with the unscaled weight",
        "np.sum(weight * by_row(norm.b),",
        "np.sum(weight * by_row(norm.a * norm.b),",
    ),
    _consumer("B is summed over all that the weight covers", "shift = np.sum(weight", "shift = np.mean(weight"),
    _consumer(
        "explicit zero padding refuses",
        'padded = mode == "NOTSET" and any(node.attributes.get_ints("pads", ()))',
        "padded = False",
    ),
    _consumer("automatic zero padding refuses", 'same = mode.startswith("SAME") and', "same = False and"),
    _consumer("a Gemm's alpha scales B", 'node.attributes.get_float("alpha", 1.0) * (norm.b', "1.0 * (norm.b"),
    _consumer("a transposed Gemm reads W.T", "rows = weight.T if transposed else weight", "rows = weight"),
    _consumer(
        "a transposed Gemm scales the columns of W",
        "shape = (1, -1) if transposed else (-1, 1)",
        "shape = (-1, 1)",
    ),
    _consumer(
        "a transposed convolution does not take a shift",
        'if norm.shifts:\n        raise Refuse(f"{label(node)} covers',
        'if False:\n        raise Refuse(f"{label(node)} covers',
    ),
    _consumer(
        "the bias behind a MatMul takes B@W",
        "found.values + shift, np.arange",
        "found.values, np.arange",
    ),
    _consumer("a Gemm that transposes its input refuses", 'if node.attributes.get_int("transA", 0):', "if False:"),
    Mutation(
        "a fold that saves no node is not made",
        "folding/fold.py",
        "if rewrite.added >= stays and not simpler:",
        "if False:",
    ),
    # ---- who else reads or sees a value
    Mutation("a producer with a second consumer refuses", "graphs/nodes.py", "if len(uses) > 1:", "if len(uses) > 99:"),
    Mutation(
        "a producer that is a graph output refuses",
        "graphs/nodes.py",
        "    if value.is_graph_output():\n",
        "    if False:\n",
    ),
    Mutation(
        "a norm that is a graph output does not move forward",
        "folding/toward_output.py",
        "    if value.is_graph_output():\n",
        "    if False:\n",
    ),
    Mutation(
        "every reader of a norm takes it in",
        "folding/toward_output.py",
        "for use in uses:",
        "for use in uses[:1]:",
    ),
    Mutation(
        "a weight that two layers share refuses",
        "folding/constants.py",
        "if others:",
        "if False:",
    ),
    Mutation(
        "what a caller may override is no constant",
        "folding/constants.py",
        "if value.const_value is not None and not value.is_graph_input()",
        "if value.const_value is not None",
    ),
    Mutation(
        "a value that now holds something else loses its name",
        "folding/graph.py",
        "value.name = self.folded_name(value.name)",
        "pass",
    ),
    # ---- through pools, concat, add, pad, flatten
    Mutation(
        "a max pool refuses negative scales", "folding/pool.py", "indices(norm.a < 0.0)", "indices(norm.a < -1e9)"
    ),
    Mutation(
        "an average pool that counts its padding refuses",
        "folding/pool.py",
        'padded = any(node.attributes.get_ints("pads", ())) or _same(node)',
        "padded = False",
    ),
    Mutation(
        "a mean over the channels refuses",
        "folding/pool.py",
        "if norm.channels > 1 and (not axes or norm.axis in axes):",
        "if norm.channels > 1 and not axes:",
    ),
    Mutation(
        "each branch of a concat takes its own slice",
        "folding/concat.py",
        "norm.part(start, start + size)",
        "norm.part(0, size)",
    ),
    Mutation(
        "a sum carries B once", "folding/add.py", "onward(branches[1], norm.scaling())", "onward(branches[1], norm)"
    ),
    Mutation(
        "both branches of a sum are scaled",
        "folding/add.py",
        "[onward(branches[0], norm), onward(branches[1], norm.scaling())]",
        "[onward(branches[0], norm)]",
    ),
    Mutation(
        "branches of different ranks refuse",
        "folding/add.py",
        "if rank is None or draft.shapes.rank(branch) != rank:",
        "if rank is None:",
    ),
    Mutation(
        "a constant border refuses",
        "folding/passthrough.py",
        'get_string("mode", "constant") == "constant"',
        'get_string("mode", "constant") == "none"',
    ),
    Mutation(
        "flattening repeats each channel over its space",
        "folding/layout.py",
        "np.arange(size) * step // inner % channels",
        "np.arange(size) % channels",
    ),
    Mutation(
        "a map goes through a Transpose to the axis that it moves",
        "folding/layout.py",
        "order.index(norm.axis) if forward else order[norm.axis]",
        "order[norm.axis] if forward else order.index(norm.axis)",
    ),
    Mutation(
        "channels are taken apart only where all parts are the same",
        "folding/layout.py",
        "if all(_same_in_every_part(values[parts]) for values in (norm.a, norm.b)):",
        "if True:",
    ),
    Mutation(
        "only a Transpose that undoes the other goes with it",
        "folding/layout.py",
        "return len(inner) == len(outer) and [inner[axis] for axis in outer] == list(range(len(inner)))",
        "return len(inner) == len(outer)",
    ),
    Mutation(
        "a mean that drops axes moves the channels",
        "folding/pool.py",
        "return norm if kept is None or norm.axis >= len(kept) else norm.along(kept[norm.axis])",
        "return norm",
    ),
    Mutation("a pool of the channels' axis refuses", "folding/pool.py", "elif not norm.is_on(1):", "elif False:"),
    Mutation(
        "padding of the channels refuses wherever they are",
        "folding/passthrough.py",
        "if axis in (0, norm.axis)):",
        "if axis in (0, 1)):",
    ),
    Mutation(
        "a concatenation of another axis than the channels' refuses",
        "folding/concat.py",
        "if axis != norm.axis:",
        "if axis != 1:",
    ),
    Mutation(
        "a constant that had to stay is of the norm's axis",
        "folding/into_neighbour.py",
        "if not found.lies_on(axis):",
        "if False:",
    ),
    # ---- runs
    Mutation(
        "a Cast to another type is no no-op",
        "folding/no_ops.py",
        'return before is not None and before == node.attributes.get_int("to", 0)',
        "return True",
    ),
    Mutation(
        "a Reshape to another shape is no no-op",
        "folding/no_ops.py",
        "if None not in before and before == after:",
        "if True:",
    ),
    Mutation(
        "a Transpose to another order is no no-op",
        "folding/no_ops.py",
        "return order is not None and list(order) == list(range(len(order)))",
        "return True",
    ),
    Mutation(
        "a Tile that repeats is no no-op",
        "folding/no_ops.py",
        'if name == "Tile":\n            return _only(draft, optional(node, 1), 1)',
        'if name == "Tile":\n            return True',
    ),
    Mutation("steps of two axes are two runs", "folding/runs.py", "> 1}) < 2", "> 1}) < 99"),
    Mutation("Neg turns the sign", "folding/readers.py", "PerChannel.of(-1.0, 0.0)", "PerChannel.of(1.0, 0.0)"),
    Mutation(
        "a BatchNormalization that stays has its channels on axis 1",
        "folding/standalone.py",
        "and norm.is_on(1)) or",
        ") or",
    ),
    Mutation(
        "a constant that had to stay takes B with its sign",
        "folding/into_neighbour.py",
        'shift = -norm.b if node.op_type == "Sub"',
        'shift = norm.b if node.op_type == "Sub"',
    ),
    Mutation(
        "a constant border stays as it is only where the whole map keeps it",
        "folding/passthrough.py",
        "if np.any(norm.a * border + norm.b != border):",
        "if np.any(norm.b != 0):",
    ),
    Mutation(
        "dropout in training mode refuses",
        "folding/passthrough.py",
        "if mode is not None and bool(np.any(draft.constants.array(mode))):",
        "if False:",
    ),
    Mutation(
        "an automatically padded average pool that counts refuses",
        "folding/pool.py",
        'any(node.attributes.get_ints("pads", ())) or _same(node)',
        'any(node.attributes.get_ints("pads", ()))',
    ),
    Mutation(
        "an average pool that rounds up and counts refuses",
        "folding/pool.py",
        'if padded or node.attributes.get_int("ceil_mode", 0) != 0:',
        "if padded:",
    ),
    Mutation(
        "a constant that had to stay is scaled",
        "folding/into_neighbour.py",
        "array = norm.a * found.values + shift",
        "array = found.values + shift",
    ),
    Mutation(
        "a scale that had to stay has no place for a shift",
        "folding/into_neighbour.py",
        'if norm.shifts:\n        raise Refuse(f"{label(node)} is a scale with',
        'if False:\n        raise Refuse(f"{label(node)} is a scale with',
    ),
    Mutation(
        "a BatchNormalization that had to stay takes B",
        "folding/into_neighbour.py",
        "for index, shift in ((1, 0.0), (2, norm.b)):",
        "for index, shift in ((1, 0.0), (2, 0.0)):",
    ),
)
