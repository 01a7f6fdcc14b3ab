"""Calibration data that is not like that of training is told of by the first norms, and other data is not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from normexport import norms
from normexport.folding import fold
from normexport.graphs.moments import KEY
from normexport.onnx_export import InputSpec
from normexport.precision import Int8
from normexport.precision.reduce import reduce_precision
from tests.folding.build import GraphBuilder

RNG = np.random.default_rng(8)
WEIGHT = RNG.normal(0.1, 0.4, (6, 3, 3, 3))
SPEC = InputSpec("x", (3, 8, 8))
MEAN, STD = 0.45, 0.226


def scaled(count: int = 16) -> np.ndarray:
    """Images as in training: of [0, 1], standardised."""
    colours = RNG.uniform(0, 1, (count, 3, 4, 4))
    return ((np.kron(colours, np.ones((2, 2))) - MEAN) / STD).astype(np.float32)


def network(kind: str) -> ir.Model:
    """Convolution, norm of statistics of `scaled`, ReLU; in numpy, on the centre of the images."""
    images = scaled(200)
    windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(2, 3))
    rows = np.einsum("nchwij,mcij->mnhw", windows, WEIGHT).reshape(6, -1)
    mean, graph = rows.mean(axis=1), GraphBuilder(np.float32)
    stat = norms.KINDS[kind].statistic(rows - mean[:, None], k=10, chunks=16, correction=0.0)
    value = graph.node("Conv", [graph.input(("N", 3, 8, 8)), graph.const(WEIGHT)])
    constants = [graph.const(each) for each in (mean, 1 / stat, RNG.uniform(0.5, 2, 6), RNG.normal(0, 1, 6))]
    value = graph.node("RunningNorm", [value, *constants], domain=norms.DOMAIN, kind=kind)
    second = graph.node("Conv", [graph.node("Relu", [value]), graph.const(RNG.normal(size=(4, 6, 3, 3)))])
    graph.output(second)
    model = graph.model()
    model.functions.append(norms.functions()["RunningNorm"])
    return fold(ir.from_proto(model)).model


def notes(model: ir.Model, images: np.ndarray) -> list[str]:
    reduced = reduce_precision(model, Int8(list(images), "minmax", min_snr=-100), [SPEC])
    return [note for note in reduced.precision.notes if "as in training" in note]


@pytest.mark.parametrize("kind", list(norms.KINDS))
def test_data_as_in_training_raises_no_doubt(kind: str) -> None:
    assert notes(network(kind), scaled()) == []


@pytest.mark.parametrize("kind", list(norms.KINDS))
@pytest.mark.parametrize("wrong", ["in [0, 1]", "in [0, 255]", "shifted"])
def test_data_of_another_scale_is_told_once(kind: str, wrong: str) -> None:
    images = scaled()
    given = {"in [0, 1]": images * STD + MEAN, "in [0, 255]": (images * STD + MEAN) * 255, "shifted": images + 9}
    (note,) = notes(network(kind), given[wrong].astype(np.float32))
    assert ("deviations from its mean" if wrong == "shifted" else "of what the norm was trained on") in note


def test_a_model_whose_metadata_is_damaged_raises_no_doubt() -> None:
    model = network("l1")
    model.metadata_props[KEY] = "[]"
    assert notes(model, scaled() * 9) == []
