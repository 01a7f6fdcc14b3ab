"""The long tail: operators whose function in onnx.reference was compared with ONNX Runtime and found right."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from normexport.runtime.float64.registry import Call, Kernel
from normexport.runtime.float64.types import held

#: Each compared with ONNX Runtime by the onnx package's own test models (tests/runtime/float64).
CHECKED = {
    "": (
        "AffineGrid",
        "DFT",
        "DeformConv",
        "MaxUnpool",
        "MelWeightMatrix",
        "NonMaxSuppression",
        "RegexFullMatch",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "TfIdfVectorizer",
    ),
    "ai.onnx.ml": (
        "ArrayFeatureExtractor",
        "Binarizer",
        "LabelEncoder",
        "TreeEnsemble",
    ),
}


def from_onnx_reference(domain: str, name: str) -> Kernel | None:
    """The function that computes an operator by onnx.reference, None where it is not trusted for that."""
    if name not in CHECKED.get(domain, ()):
        return None

    def evaluate(call: Call, *given: Any) -> tuple[Any, ...]:
        inputs = given
        if name == "NonMaxSuppression":  # limits without an axis, which runtimes take, are too few for it
            inputs = (*given[:2], *(None if limit is None else np.atleast_1d(limit) for limit in given[2:]))
        names = ["" if value is None else f"i{index}" for index, value in enumerate(inputs)]
        outputs = [f"o{index}" if wanted else "" for index, wanted in enumerate(call.outputs)]
        attributes = {key: _plain(value) for key, value in call.attributes.items()}
        node = onnx.helper.make_node(name, names, outputs, domain=domain, **attributes)
        infos = [onnx.ValueInfoProto(name=each) for each in names if each]
        graph = onnx.helper.make_graph([node], name, infos, [onnx.ValueInfoProto(name=o) for o in outputs if o])
        opsets = [onnx.helper.make_opsetid(domain, call.version)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        feeds = {key: value for key, value in zip(names, inputs, strict=True) if key}
        results = iter(ReferenceEvaluator(model).run(None, feeds))
        return tuple(held(next(results)) if wanted else None for wanted in call.outputs)

    return evaluate


def _plain(value: Any) -> Any:
    return onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
