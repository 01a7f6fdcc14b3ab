"""Ranges in a file: what they were made from, and every way such a file can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from normexport.errors import UsageError
from normexport.precision.int8.calibration import calibrate, read_calibration
from normexport.precision.samples import batches_of, digest_of
from tests.precision import nets
from tests.precision.nets import images

pytestmark = pytest.mark.slow


SPECS = (nets.SPEC,)


def test_a_cache_says_what_it_was_made_from_and_gives_the_ranges_back(tmp_path: Path) -> None:
    model, _ = nets.folded(nets.centred)
    made = batches_of(list(images()), SPECS, 4)
    calibration = calibrate(model, made(), "minmax")
    calibration.save(tmp_path / "cache.json")
    content = json.loads((tmp_path / "cache.json").read_text())
    assert (content["samples"], content["batch"], content["method"]) == (20, 4, "minmax")
    assert content["data"] == digest_of(made) != digest_of(batches_of(list(images(seed=1)), SPECS, 4))
    assert read_calibration(tmp_path / "cache.json", model, "minmax") == calibration


def test_a_cache_of_another_model_or_method_is_refused(tmp_path: Path) -> None:
    model, _ = nets.folded(nets.centred)
    path = tmp_path / "cache.json"
    calibrate(model, batches_of(list(images()), SPECS)(), "minmax").save(path)
    with pytest.raises(UsageError, match="another model"):
        read_calibration(path, nets.folded(nets.growing)[0], "minmax")
    with pytest.raises(UsageError, match="ranges by minmax"):
        read_calibration(path, model, "mse")
    content = json.loads(path.read_text())
    for wrong in ([0, float("nan")], [1, 0], [0], "ab"):
        path.write_text(json.dumps(content | {"ranges": content["ranges"] | {"input": wrong}}))
        with pytest.raises(UsageError, match="not a calibration cache"):
            read_calibration(path, model, "minmax")
    lacking = {name: both for name, both in content["ranges"].items() if name != "input"}
    path.write_text(json.dumps(content | {"ranges": lacking}))
    with pytest.raises(UsageError, match="lacks the range of tensor input"):
        read_calibration(path, model, "minmax")
    path.write_text("{}")
    with pytest.raises(UsageError, match="not a calibration cache"):
        read_calibration(path, model, "minmax")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ranges": []}, "ranges is a list"),
        ({"ranges": {"input": [0, 1e39]}}, r"ranges\['input'\] is not a range of float32"),
        ({"ranges": {"input": [[], 1]}}, r"ranges\['input'\]\[0\] is a list"),
        ({"symmetric": 0}, "symmetric is 0"),
        ({"model": "/etc/passwd"}, "model is '/etc/passwd', and a SHA-256"),
        ({"samples": -1}, "samples is -1"),
        ({"path": "x"}, "unknown field 'path'"),
        ({"format": 1}, "its format is 1"),
        ({"seen": "x"}, "seen is"),
    ],
)
def test_a_field_of_a_cache_that_is_wrong_is_named(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    model, _ = nets.folded(nets.centred)
    path = tmp_path / "cache.json"
    calibrate(model, batches_of(list(images(4)), SPECS)(), "minmax").save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UsageError, match=words):
        read_calibration(path, model, "minmax")


@pytest.mark.parametrize("content", ["[" * 100_000, '{"format": 1, "format": 1}', "\x00", '{"format": NaN}'])
def test_a_cache_that_is_no_json_is_one_clear_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text(content)
    with pytest.raises(UsageError, match="is not a calibration cache") as raised:
        read_calibration(tmp_path / "cache.json", nets.folded(nets.centred)[0], "minmax")
    assert len(str(raised.value).splitlines()) == 1
