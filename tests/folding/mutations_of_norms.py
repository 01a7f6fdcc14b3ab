"""Ways to break what the fold takes for a norm, and its spellings, one rule at a time: each must be noticed."""

from __future__ import annotations

from tests.mutation import Mutation

MUTATIONS_OF_NORMS = (
    # ---- what a norm is
    Mutation(
        "maps compose in order",
        "folding/per_channel.py",
        "later.a * self.b + later.b, axis)",
        "self.b + later.b, axis)",
    ),
    Mutation("B = beta - mean*A", "norms/affine.py", "self.beta - self.mean * a", "self.beta + self.mean * a"),
    Mutation(
        "a RunningNorm multiplies by inv_scale",
        "norms/affine.py",
        "self.gamma * self.inv_scale",
        "self.gamma / self.inv_scale",
    ),
    Mutation(
        "epsilon joins the variance",
        "folding/readers.py",
        'variance + node.attributes.get_float("epsilon", _EPSILON)',
        "variance",
    ),
    Mutation(
        "training mode has no constants",
        "folding/readers.py",
        'if node.attributes.get_int("training_mode", 0) or any(each.name for each in node.outputs[1:]):',
        "if False:",
    ),
    Mutation("x - c shifts by -c", "folding/readers.py", "(one, -values) if", "(one, values) if"),
    Mutation(
        "c - x turns the sign of x",
        "folding/readers.py",
        "else (-one, values)",
        "else (one, values)",
    ),
    Mutation("x / c multiplies by 1/c", "folding/readers.py", "a, b = 1.0 / values, zero", "a, b = values, zero"),
    Mutation("c / x is no chain", "folding/operands.py", 'or (index == 0 and op(node) == "Div")', ""),
    Mutation(
        "the axis decides whether a constant is per channel",
        "folding/operands.py",
        "axis = next((axis for axis, size in enumerate(aligned) if size != 1), 1)",
        "axis = 1",
    ),
    Mutation(
        "a constant that widens a single channel is no chain",
        "folding/operands.py",
        "if aligned[axis] not in (1, channels):",
        "if False:",
    ),
    Mutation("rho scales a bounded weight", "folding/weight_norm.py", "rho * v / size", "v / size"),
    Mutation(
        "a bounded weight's norm keeps its axis",
        "norms/weight.py",
        "for each in range(rank) if each != axis)",
        "for each in range(rank) if each != 0)",
    ),
    Mutation("a bounded weight's norm is a p-norm", "norms/weight.py", "** (1.0 / p)", "** 0.5"),
    # ---- spellings
    Mutation(
        "behind a node that takes channels, each has the map of the one that it is",
        "folding/copies.py",
        "return norm.pick(places, norm.axis)",
        "return norm.pick(np.sort(places), norm.axis)",
    ),
    Mutation(
        "before a node that takes channels, each has the map of the one that it becomes",
        "folding/copies.py",
        "a[places], b[places] = norm.a, norm.b",
        "a[np.sort(places)], b[np.sort(places)] = norm.a, norm.b",
    ),
    Mutation(
        "a channel that is taken several times has one map",
        "folding/copies.py",
        "if np.any(a[places] != norm.a) or np.any(b[places] != norm.b):",
        "if False:",
    ),
    Mutation(
        "a norm of one part of another axis is not one of the whole",
        "folding/copies.py",
        "if norm.axis != axis or norm.channels != size:",
        "if False:",
    ),
    Mutation(
        "a Split's later parts are later channels",
        "folding/copies.py",
        "np.arange(sum(known[:-1]), sum(known)) if",
        "np.arange(known[-1]) if",
    ),
    Mutation(
        "behind a shuffle, channel i has the map of the one that it is",
        "folding/shuffles.py",
        "return norm.pick(self.places, self.axis)",
        "return norm.pick(np.argsort(self.places), self.axis)",
    ),
    Mutation(
        "before a shuffle, each channel has the map of the one that it becomes",
        "folding/shuffles.py",
        "return norm.pick(np.argsort(self.places), self.axis)",
        "return norm.pick(self.places, self.axis)",
    ),
    Mutation(
        "no axis but the grid's is shuffled",
        "folding/shuffles.py",
        "== stop - axis > 1 and stop > moved[-1] and",
        "== stop - axis > 1 and",
    ),
    Mutation(
        "what lies within a shuffle is nobody else's",
        "folding/toward_input.py",
        "            check_private(between)",
        "            pass",
    ),
    Mutation(
        "ways that meet in a concat wait for one another",
        "folding/toward_output.py",
        "return next(node for node in self.draft.graph if node in self.joints)",
        "return next(reversed(self.joints))",
    ),
    Mutation(
        "a weight that is read around a branch as well is shared",
        "folding/constants.py",
        "if carrier in self.shared:",
        "if False:",
    ),
    Mutation(
        "what a branch captured is captured again when it has been folded",
        "folding/bodies.py",
        "            stand_in.replace_all_uses_with(value)",
        "            pass",
    ),
    Mutation(
        "behind a concat a branch's norm lies on its own channels",
        "folding/concat.py",
        "parts = slice(sum(sizes[:index]), sum(sizes[: index + 1]))",
        "parts = slice(0, sizes[index])",
    ),
    Mutation(
        "statistics that are repeated by another number than the batch stay",
        "folding/unrolled.py",
        "return targets.is_same(repeats[0], x, 0, draft) and shape",
        "return shape",
    ),
    Mutation(
        "a constant for every position is per channel where all positions agree",
        "folding/operands.py",
        "return axis if np.array_equal(np.broadcast_to(line, stored.shape), stored) else None",
        "return axis",
    ),
    Mutation(
        "a pixel shuffle takes its channels one after another",
        "folding/layout.py",
        "np.repeat(every, parts) if in_a_row else np.tile(every, parts)",
        "np.repeat(every, parts)",
    ),
    Mutation(
        "a product's weight is scaled along the norm's axis",
        "folding/product.py",
        "        shape = tuple(-1 if each == letter else 1 for each in product.w_axes)",
        "        shape = tuple(-1 if axis == len(product.w_axes) - 1 else 1 for axis in range(len(product.w_axes)))",
    ),
    Mutation(
        "B goes through a product by its own axis",
        "folding/product.py",
        'np.einsum(f"{letter},{w_axes}->{kept}", b, product.weight)',
        "np.asarray(norm.b.mean() * np.einsum(f'{w_axes}->{kept}', product.weight))",
    ),
    Mutation(
        "a product that sums over what its weight has not takes no shift",
        "folding/product.py",
        "if letter not in z_axes and size == 1 != draft.shapes.size(tensor, axis):",
        "if False:",
    ),
    Mutation(
        "one number of a weight is not one for each channel",
        "folding/product.py",
        "if place < 0 or weight.shape[place] != norm.channels:",
        "if place < 0:",
    ),
    Mutation(
        "a bias behind a product takes what B becomes",
        "folding/product.py",
        "array = (found.values + shift.reshape(-1)).reshape(shape)",
        "array = (found.values + 0 * shift.reshape(-1)).reshape(shape)",
    ),
    Mutation(
        "a matrix that comes first works on the last axis but one",
        "folding/product.py",
        'return [f"{first}xy", f"{second}yz", f"{stack}xz"]',
        'return [f"{first}yx", f"{second}yz", f"{stack}xz"]',
    ),
    Mutation(
        "a weight is standardised by its own mean",
        "folding/constant_norms.py",
        "deviation = x - np.mean(x, axis=axes, keepdims=True)",
        "deviation = x",
    ),
)
