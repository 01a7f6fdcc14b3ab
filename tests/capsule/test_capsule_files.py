"""The file itself: what numpy alone reads in it, how large it is, and which files are none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from normexport import capsule
from normexport.capsule.sampling import places, shares
from normexport.errors import UsageError
from normexport.io import numpy_files
from tests.capsule import sealed_net
from tests.capsule.conftest import Sealed
from tests.capsule.sealed_net import write
from tests.narrow import present

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def parts(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(JSON value, arrays) by numpy alone."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return json.loads(arrays.pop("capsule").tobytes()), arrays


def packed(path: Path, document: dict[str, Any] | bytes, arrays: dict[str, Any]) -> Path:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    np.savez(path, capsule=np.frombuffer(text, np.uint8), **arrays)
    return path


def test_the_references_are_what_the_network_gives_in_float64(sealed: Sealed) -> None:
    document, arrays = parts(sealed.path)
    model = sealed_net.trained().double()
    for run in document["runs"]:
        (fed,) = [arrays[each["values"]] for each in run["inputs"]]
        assert fed.dtype == np.float32
        outputs = model(torch.from_numpy(fed.astype(np.float64)))
        for told, output in zip(run["outputs"], outputs, strict=True):
            right = arrays[told["values"]]
            assert right.dtype == (np.float64 if output.is_floating_point() else np.int64)
            # inputs stand for all that round to them: a quarter of a float32 spacing apart
            np.testing.assert_allclose(right, output.detach().numpy(), rtol=1e-5, atol=1e-6)
            assert (right == output.detach().numpy()).all() == (right.dtype == np.int64)


def test_the_boundaries_are_module_outputs_in_float64(sealed: Sealed) -> None:
    document, arrays = parts(sealed.path)
    model = sealed_net.trained().double()
    seen: dict[str, Any] = {}
    for name in ("norm", "second", "head"):
        model.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.setdefault(name, out))
    run = document["runs"][document["boundaries"]["run"]]
    model(torch.from_numpy(arrays[run["inputs"][0]["values"]].astype(np.float64)))
    for tensor in document["boundaries"]["tensors"]:
        assert tensor["places"] is None
        expected = seen[tensor["path"]].detach().numpy()
        assert tensor["shape"] == list(expected.shape)
        np.testing.assert_allclose(arrays[tensor["values"]], expected, rtol=1e-5, atol=1e-5)


def test_it_names_what_it_was_made_from(sealed: Sealed) -> None:
    import hashlib

    document, _ = parts(sealed.path)
    for told, path in ((document["source"], sealed.folder / "model.pt2"), (document["model"][0], sealed.model)):
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        assert told == {"file": path.name, "bytes": len(content), "sha256": digest}
    assert document["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    assert (document["format"], document["precision"]) == (1, "float32")


def test_the_reader_of_the_documentation_judges_by_numpy_alone(sealed: Sealed, tmp_path: Path) -> None:
    *_, code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "capsule.md").read_text(), re.DOTALL)
    assert len(code.split("\n\n", 1)[1].splitlines()) <= 12
    blocked = "import sys\nfor name in ('torch', 'onnx', 'onnx_ir', 'normexport'): sys.modules[name] = None\n"
    arrays = sealed.arrays()
    write(tmp_path / "right.npz", arrays)
    for name in (key for key in arrays if key.startswith("1/")):
        wrong = arrays[name].copy()
        wrong.reshape(-1)[0] += 1
        write(tmp_path / "wrong.npz", arrays | {name: wrong})
        for file, bad in (("right", 0), ("wrong", 1)):
            call = f"judge({str(sealed.path)!r}, {str(tmp_path / file)!r} + '.npz')"
            done = subprocess.run([sys.executable, "-c", f"{blocked}{code}\n{call}"], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            lines = done.stdout.splitlines()
            assert len(lines) == 9
            assert [line for line in lines if "WRONG" in line] == [
                line for line in lines if f", {name[2:]}: WRONG" in line
            ]
            assert sum("WRONG" in line for line in lines) == bad


def test_what_is_read_is_written_again_byte_by_byte(sealed: Sealed, tmp_path: Path) -> None:
    capsule.write(capsule.read(sealed.path), tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == sealed.path.read_bytes()


def test_room_is_shared_out_and_never_exceeded() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        sizes = {str(index): int(10 ** rng.uniform(0, 6)) for index in range(rng.integers(1, 40))}
        room = int(10 ** rng.uniform(1, 7))
        kept = shares(sizes, room)
        used = sum(count * (8 if count == sizes[name] else 16) for name, count in kept.items())
        assert used <= room or all(kept[name] in (0, sizes[name]) for name in kept)
        assert used <= room
        sampled = [count for name, count in kept.items() if count < sizes[name]]
        assert max(sampled, default=0) - min(sampled, default=0) <= 1
        assert all(0 <= kept[name] <= sizes[name] for name in sizes)


def test_places_rise_within_the_tensor_and_stay_the_same() -> None:
    at = present(places(1000, 100))
    assert (np.diff(at) > 0).all()
    assert (at[0] >= 0, at[-1] < 1000, len(at)) == (True, True, 100)
    assert (places(1000, 100) == at).all()
    assert places(7, 7) is None


HOSTILE = {
    "an infinite budget": lambda d: limit(d).update(rms=float("inf")),
    "a budget of NaN": lambda d: limit(d).update(rms=float("nan")),
    "a negative budget": lambda d: limit(d).update(rms=-1.0),
    "a budget in words": lambda d: limit(d).update(rms="much"),
    "a budget of true": lambda d: limit(d).update(max_abs=True),
    "no largest error": lambda d: limit(d).update(max_abs=None),
    "an endless whole number": lambda d: limit(d).update(rms=10**400),
    "another rule": lambda d: limit(d).update(rule="trust me"),
    "a missing budget": lambda d: limit(d).pop("rms"),
    "a ratio that anything has": lambda d: replace_rule(d, min_db=-1e308, scale_rms=1.0),
    "a ratio of an endless signal": lambda d: replace_rule(d, min_db=-399.0, scale_rms=1e308),
    "control characters in a name": lambda d: d["runs"][0]["outputs"][0].update(name="y\x1b[2J"),
    "a name that turns the line around": lambda d: d["boundaries"]["tensors"][0].update(path="a\u202eb"),
    "a name of many letters": lambda d: d["runs"][0].update(name="x" * 10**6),
    "a lone surrogate": lambda d: d["notes"].append("\ud800"),
    "a missing array": lambda d: d["runs"][0]["outputs"][0].update(values="nothing"),
    "the text as an array": lambda d: d["runs"][0]["outputs"][0].update(values="capsule"),
    "a path for an array": lambda d: d["runs"][0]["outputs"][0].update(values="../../etc/passwd"),
    "no runs": lambda d: d.update(runs=[]),
    "no outputs": lambda d: [run.update(outputs=[]) for run in d["runs"]],
    "an output in one run alone": lambda d: d["runs"][1]["outputs"].pop(),
    "an output twice": lambda d: [run["outputs"].append(run["outputs"][0]) for run in d["runs"]],
    "an input twice": lambda d: d["runs"][0]["inputs"].append(d["runs"][0]["inputs"][0]),
    "inputs that are not its own": lambda d: d["inputs"].append({"name": "z", "dtype": "float32"}),
    "an input of another type": lambda d: d["inputs"][0].update(dtype="int64"),
    "an unknown type": lambda d: d["inputs"][0].update(dtype="string"),
    "control characters in a version": lambda d: d["versions"].update(torch="\x1b[2J"),
    "a channel of nothing": lambda d: d["channels"][0].update(output="nothing"),
    "channels of another array": lambda d: d["channels"][0].update(values="output_0_0"),
    "a run that is not there": lambda d: d["boundaries"].update(run=9),
    "a huge shape": lambda d: d["boundaries"]["tensors"][0].update(shape=[1 << 40, 1 << 40]),
    "many axes": lambda d: d["boundaries"]["tensors"][0].update(shape=[1] * 100),
    "a negative size": lambda d: d["boundaries"]["tensors"][0].update(shape=[-1]),
    "another shape": lambda d: d["boundaries"]["tensors"][0].update(shape=[1]),
    "places that are floats": lambda d: d["boundaries"]["tensors"][0].update(places="output_0_0"),
    "special values that are not there": lambda d: d["runs"][0]["outputs"][0]["special"].update(nan=1),
    "a format to come": lambda d: d.update(format=2),
    "an unknown field": lambda d: d.update(run="rm -rf"),
    "an unknown precision": lambda d: d.update(precision="float128"),
    "a file with a folder": lambda d: d["source"].update(file="../x"),
    "a list for an object": lambda d: d.update(boundaries=[]),
    "an array that nothing names": lambda d: d["boundaries"].update(tensors=[]),
}


def limit(document: dict[str, Any]) -> dict[str, Any]:
    return document["runs"][0]["outputs"][0]["rule"]


def replace_rule(document: dict[str, Any], **fields: Any) -> None:
    document["runs"][0]["outputs"][0]["rule"] = {"rule": "snr", **fields}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_is_refused_in_one_line(sealed: Sealed, tmp_path: Path, change: Callable[..., Any]) -> None:
    document, arrays = parts(sealed.path)
    change(document)
    with pytest.raises(UsageError) as refused:
        capsule.read(packed(tmp_path / "h.npz", document, arrays))
    words = str(refused.value)
    assert "is not a capsule" in words
    assert words.isprintable()
    assert len(words) < 500


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b'{"format": 1}', b"\xff\xfe", b"[" * 100_000, b'{"format": 1, "format": 1}']
)
def test_a_text_that_is_none_is_refused(sealed: Sealed, tmp_path: Path, text: bytes) -> None:
    with pytest.raises(UsageError, match="is not a capsule"):
        capsule.read(packed(tmp_path / "h.npz", text, parts(sealed.path)[1]))


def test_arrays_that_are_no_plain_numbers_are_refused(sealed: Sealed, tmp_path: Path) -> None:
    document, arrays = parts(sealed.path)
    name = document["runs"][0]["outputs"][0]["values"]
    for other in (arrays[name].astype(np.float32), arrays[name].astype("U9"), arrays[name].astype(complex)):
        with pytest.raises(UsageError, match="is not a capsule"):
            capsule.read(packed(tmp_path / "h.npz", document, arrays | {name: other}))
    np.savez(tmp_path / "p.npz", **(arrays | {"capsule": np.array([{"a": 1}], dtype=object)}), allow_pickle=True)
    with pytest.raises(UsageError, match="is not"):
        capsule.read(tmp_path / "p.npz")


def test_what_unpacks_to_more_than_its_file_may_take_is_refused(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numpy_files, "most_at_once", lambda size: 4 * size + (1 << 20))
    document, arrays = parts(sealed.path)
    name = document["runs"][0]["outputs"][0]["values"]
    text = np.frombuffer(json.dumps(document).encode(), np.uint8)
    np.savez_compressed(tmp_path / "b.npz", **(arrays | {"capsule": text, name: np.zeros((1 << 18, 5))}))
    with pytest.raises(UsageError, match="MiB at once"):
        capsule.read(tmp_path / "b.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"hello"])
def test_other_files_are_no_capsules(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UsageError):
        capsule.read(tmp_path / "x.npz")
    with pytest.raises(UsageError):
        capsule.read(tmp_path / "missing.npz")
    with pytest.raises(UsageError):
        capsule.read(tmp_path)


def test_a_truncated_capsule_is_refused_wherever_it_ends(sealed: Sealed, tmp_path: Path) -> None:
    content = sealed.path.read_bytes()
    for end in range(0, len(content), max(1, len(content) // 40)):
        (tmp_path / "t.npz").write_bytes(content[:end])
        with pytest.raises(UsageError):
            capsule.read(tmp_path / "t.npz")


def test_a_limit_as_large_as_the_values_proves_nothing(sealed: Sealed, tmp_path: Path) -> None:
    document, arrays = parts(sealed.path)
    for run in document["runs"]:
        run["outputs"][0]["rule"].update(rms=1e30, max_abs=1e30)
    document["boundaries"]["tensors"] = [each for each in document["boundaries"]["tensors"] if each["path"] != "head"]
    arrays = {name: array for name, array in arrays.items() if name != "boundary_2"}
    path = packed(tmp_path / "h.npz", document, arrays)
    known = capsule.read(path)
    report = capsule.prove(known, sealed.model)
    assert report.judgement.verdict.word == "INCONCLUSIVE"
    assert f"{known.runs[0].outputs[0].name}: it is nearly the same" in report.judgement.reasons[0]


@pytest.mark.parametrize("field", ["scale_rms", "scale_max", "rms", "max_abs", "cosine", "size"])
@pytest.mark.parametrize("number", [1e308, 1e-320, 0])
def test_errors_of_a_baseline_at_the_ends_of_the_numbers_give_a_verdict(
    sealed: Sealed, tmp_path: Path, field: str, number: float
) -> None:
    document, arrays = parts(sealed.path)
    limit(document)["baseline"][field] = int(min(number, 1e15)) if field == "size" else number
    known = capsule.read(packed(tmp_path / "h.npz", document, arrays))
    write(tmp_path / "r.npz", sealed.arrays())
    told = json.dumps(capsule.prove(known, tmp_path / "r.npz").as_dict(), allow_nan=False)
    assert json.loads(told)["verdict"] in ("passed", "inconclusive")
