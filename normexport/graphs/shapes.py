"""Ranks and channel counts of values, from the file's own annotations or from shape inference."""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir

from normexport.io.model_tensors import replace_tensors

# Shape inference reads shape tensors (Reshape, Pad, axes); weights are dropped so that they are never serialised.
_SMALL = 1024
_MOST_VALUES = 1 << 20
#: Operators that make as many elements as their inputs say.
_MAKERS = frozenset({"ConstantOfShape", "Expand", "Range", "Tile", "Pad", "OneHot", "EyeLike", "Resize"})


class Shapes:
    """Sizes by value. Inference runs at most once, on a copy without weights, the first time one is missing."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._inferred: dict[str, tuple[int | str | None, ...]] | None = None
        self._types: dict[str, ir.DataType] = {}
        self._kept: dict[ir.Value, tuple[tuple[int | str | None, ...] | None, ir.DataType | None]] = {}

    def of(self, value: ir.Value) -> tuple[int | None, ...] | None:
        """Sizes of `value`, None for a size that is not static; None altogether where the rank is unknown."""
        sizes = self.named(value)
        return None if sizes is None else tuple(size if isinstance(size, int) else None for size in sizes)

    def named(self, value: ir.Value) -> tuple[int | str | None, ...] | None:
        """As `of`, with the name of a size that has one: sizes of one name are equal at every run."""
        if value.shape is not None:
            return _named(value.shape)
        if value.const_value is not None and value.is_initializer():
            return _named(value.const_value.shape)
        if value in self._kept:
            return self._kept[value][0]
        return self._infer().get(value.name or "")

    def rank(self, value: ir.Value) -> int | None:
        """Number of axes, None if unknown."""
        sizes = self.of(value)
        return None if sizes is None else len(sizes)

    def channels(self, value: ir.Value) -> int | None:
        """Static size of axis 1, None if unknown or absent."""
        return self.size(value, 1)

    def size(self, value: ir.Value, axis: int) -> int | None:
        """Static size of an axis counted from the front, None if unknown or absent."""
        sizes = self.of(value)
        return sizes[axis] if sizes is not None and len(sizes) > axis else None

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """Element type, None if unknown."""
        if value.dtype is not None:
            return value.dtype
        if value in self._kept:
            return self._kept[value][1]
        self._infer()
        return self._types.get(value.name or "")

    def keep(self, source: ir.Value, target: ir.Value | None = None) -> None:
        """Remember what is known of `source` for `target` (itself by default), whose name is about to change."""
        if source.shape is None or source.dtype is None:
            self._kept[target or source] = (self.named(source), self.dtype(source))

    def _infer(self) -> dict[str, tuple[int | str | None, ...]]:
        # Names are a safe key although the graph is being rewritten: a name always means the same tensor.
        if self._inferred is None:
            self._inferred = {}
            for info in _inferred_infos(self._model):
                tensor = info.type.tensor_type
                if tensor.elem_type:
                    self._types[info.name] = ir.DataType(tensor.elem_type)
                if tensor.HasField("shape"):
                    dims = tensor.shape.dim
                    self._inferred[info.name] = tuple(
                        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims
                    )
        return self._inferred


def _static(shape: ir.ShapeProtocol) -> tuple[int | None, ...]:
    return tuple(dim if isinstance(dim, int) else None for dim in shape)


def _named(shape: ir.ShapeProtocol) -> tuple[int | str | None, ...]:
    return tuple(dim if isinstance(dim, int) else dim.value for dim in shape)


def _inferred_infos(model: ir.Model) -> list[onnx.ValueInfoProto]:
    bare = model.clone()
    for value in list(bare.graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= _SMALL or value.name is None:
            continue
        del bare.graph.initializers[value.name]
        value.shape, value.type = ir.Shape(_static(tensor.shape)), ir.TensorType(tensor.dtype)
        if not value.is_graph_input():
            bare.graph.inputs.append(value)
    replace_tensors(bare, _inside)
    try:
        proto = onnx.shape_inference.infer_shapes(
            ir.to_proto(bare), strict_mode=False, data_prop=few_values(bare.graph)
        )
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return []  # a graph that inference can't read has unknown ranks, and rules refuse what they can't know
    return [*proto.graph.value_info, *proto.graph.output]


def _inside(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """A small tensor of a data file as an array: inference reads no files, and would take its values as unknown."""
    if not isinstance(tensor, ir.ExternalTensor) or tensor.nbytes > _SMALL:
        return tensor
    try:
        return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)
    except (OSError, ValueError):  # whoever needs its values says so
        return tensor


def few_values(graph: ir.Graph) -> bool:
    """Whether the values that inference follows stay few.

    Concat(s, s), again and again, would double them; ConstantOfShape and its like make as many as a constant says.
    """
    sizes: dict[ir.Value, int] = {}
    for node in graph:
        known = [sizes.get(value, _SMALL) for value in node.inputs if value is not None]
        size = sum(known) if node.op_type == "Concat" else max(known, default=_SMALL)
        if node.op_type in _MAKERS:
            size = max([size, *(_product(value) for value in node.inputs if value is not None)])
        size = max(size, _shape_given(node))
        if size > _MOST_VALUES:
            return False
        sizes.update(dict.fromkeys(node.outputs, size))
    return True


def _shape_given(node: ir.Node) -> int:
    """How many elements the attribute `shape` of random numbers means; 0 where there is none."""
    shape = node.attributes.get("shape")
    if not isinstance(shape, ir.Attr) or shape.type != ir.AttributeType.INTS:
        return 0
    return math.prod(max(1, abs(each)) for each in shape.as_ints())


def _product(value: ir.Value) -> int:
    """How many elements a constant shape means, or how far a constant number reaches; 0 for what is no constant."""
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.nbytes > _SMALL or tensor.dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        return 0
    return math.prod(max(1, abs(int(each))) for each in tensor.numpy().reshape(-1))
