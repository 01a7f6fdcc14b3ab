"""An operator set below 13 has one scale for a whole weight: int8 says so, and loses what the others keep."""

from __future__ import annotations

import math

import numpy as np
import pytest

from normexport.onnx_export import InputSpec
from normexport.precision import Int8, reduce_precision
from normexport.precision.reduce import prepared
from tests.narrow import present
from tests.precision.int8.test_judging import CLASSES, X, network


@pytest.mark.parametrize(("opset", "scales"), [(11, 1), (12, 1), (13, CLASSES), (17, CLASSES)])
def test_one_scale_for_a_whole_weight_is_told_of(opset: int, scales: int) -> None:
    model = network(np.zeros(CLASSES, np.float32), (), opset=opset)
    config = Int8(calibration=list(X), method="minmax", effort="none", min_snr=-math.inf)
    found = reduce_precision(model, config, [InputSpec("x", (4,))])
    (layer,) = (node for node in found.model.graph if node.op_type == "Gemm")
    pair = present(present(layer.inputs[1]).producer())
    assert present(present(pair.inputs[1]).const_value).size == scales
    told = [note for note in found.precision.notes if f"operator set {opset}" in note]
    assert len(told) == (scales == 1)


def test_what_convert_makes_of_an_old_file_has_a_scale_for_each_channel() -> None:
    model = network(np.zeros(CLASSES, np.float32), (), opset=11)
    config = Int8(calibration=list(X), method="minmax", effort="none", min_snr=-math.inf)
    found = reduce_precision(prepared(model, config), config, [InputSpec("x", (4,))])
    assert not any("one scale" in note for note in found.precision.notes)
