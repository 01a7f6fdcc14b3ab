"""`convert --bundle`: what lies in the folders, read back by others: protobuf, a YAML reader, ONNX Runtime alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from normexport_cli.app import app
from torch import nn
from typer.testing import CliRunner

import normexport
from normexport import capsule
from normexport import nn as nxn
from normexport.errors import ExitCode, UsageError
from tests.capsule import sealed_net

pytestmark = pytest.mark.slow

KINDS = ("triton", "kserve", "folder")


def config_of(path: Path) -> Any:
    """The configuration as Triton's own protobuf reads it."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())


@pytest.mark.parametrize("kind", ["triton", "kserve"])
def test_the_configuration_is_read_by_tritons_protobuf_and_agrees_with_the_file(bundles: Path, kind: str) -> None:
    import onnxruntime

    folder = bundles / kind / "models" / "my_net"
    config = config_of(folder / "config.pbtxt")
    session = onnxruntime.InferenceSession(folder / "1" / config.default_model_filename)
    assert (config.name, config.backend, config.max_batch_size) == ("my_net", "onnxruntime", 32)
    assert config.HasField("dynamic_batching")
    for told, has in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [port.name for port in told] == [port.name for port in has]
        for one, other in zip(told, has, strict=True):
            sizes = [size if isinstance(size, int) else -1 for size in other.shape[1:]]
            assert list(one.dims) == (sizes or [1])
            assert one.HasField("reshape") == (not sizes)


def test_the_model_warms_up_on_a_sample_of_the_proof(bundles: Path) -> None:
    folder = bundles / "triton" / "models" / "my_net"
    config = config_of(folder / "config.pbtxt")
    assert [warm.batch_size for warm in config.model_warmup] == [1, 32]
    given = config.model_warmup[0].inputs["x"]
    sample = np.frombuffer((folder / "warmup" / given.input_data_file).read_bytes(), "<f4").reshape(tuple(given.dims))
    runs = capsule.read(bundles / "triton" / "model.capsule.npz").runs
    assert any(np.array_equal(sample, run.feeds["x"][0]) for run in runs)


def test_the_inference_service_is_yaml_that_names_the_model_by_kubernetes_rules(bundles: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install pyyaml")
    service = yaml.safe_load((bundles / "kserve" / "inference-service.yaml").read_text())
    assert service["kind"] == "InferenceService"
    assert service["metadata"]["name"] == "my-net"
    model = service["spec"]["predictor"]["model"]
    assert (model["protocolVersion"], model["runtime"]) == ("v2", "kserve-tritonserver")
    onnx = bundles / "kserve" / "models" / "my_net" / "1" / "model.onnx"
    digest = service["metadata"]["annotations"]["normexport.onnx.sha256"]
    assert digest == hashlib.sha256(onnx.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_has_every_file_by_its_hash_and_what_it_was_made_from(
    bundles: Path, checkpoint: Path, kind: str
) -> None:
    folder = bundles / kind
    record = json.loads((folder / "model.bundle.json").read_text())
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {
        "model.bundle.json"
    }
    assert set(record["files"]) == there
    for name, known in record["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == known["sha256"]
    (source,) = record["provenance"]["source"]
    assert source["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert record["verdict"] == "PASSED"
    assert str(checkpoint.parent) not in (folder / "model.bundle.json").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_conversion_gives_the_same_bundle(checkpoint: Path, bundles: Path, tmp_path: Path, kind: str) -> None:
    normexport.convert(checkpoint, tmp_path, config=normexport.ConvertConfig(bundle=kind))
    for path in (bundles / kind).rglob("*"):
        if path.is_file():
            other = tmp_path / kind / path.relative_to(bundles / kind)
            assert other.read_bytes() == path.read_bytes(), path.name


def run_alone(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """As somebody does who has the folder and neither the library nor PyTorch."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = "import sys, runpy; sys.modules['torch'] = sys.modules['normexport'] = None; sys.argv = sys.argv[1:];"
    command = [sys.executable, "-c", f"{code} runpy.run_path(sys.argv[0], run_name='__main__')", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_folder_runs_without_the_library_and_its_capsule_judges_what_it_gave(bundles: Path, tmp_path: Path) -> None:
    done = run_alone(bundles / "folder", "run_model.py", "--capsule", "model.capsule.npz", tmp_path / "results.npz")
    assert done.returncode == 0, done.stderr
    assert normexport.prove(bundles / "folder" / "model.capsule.npz", tmp_path / "results.npz").passed
    np.savez(tmp_path / "in.npz", x=np.zeros((4, 3, 8, 8), np.float32))
    assert run_alone(bundles / "folder", "run_model.py", tmp_path / "in.npz", tmp_path / "out.npz").returncode == 0
    assert np.load(tmp_path / "out.npz")["output_0"].shape == (4, 5)


@pytest.mark.parametrize("arrays", [{}, {"x": np.zeros((4, 3, 9, 9), np.float32)}, {"x": np.array([{}], dtype=object)}])
def test_inputs_that_do_not_fit_are_one_line(bundles: Path, tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "in.npz", **arrays)
    done = run_alone(bundles / "folder", "run_model.py", tmp_path / "in.npz", tmp_path / "out.npz")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("kind", "script", "file"),
    [("folder", "run_model.py", "model.onnx"), ("triton", "start_server.py", "models/my_net/1/model.onnx")],
)
def test_a_changed_or_missing_file_is_refused_at_start_up(
    bundles: Path, tmp_path: Path, kind: str, script: str, file: str
) -> None:
    folder = Path(shutil.copytree(bundles / kind, tmp_path / kind))
    words = ("--check",) if kind == "triton" else ("--capsule", "model.capsule.npz", tmp_path / "r.npz")
    content = bytearray((folder / file).read_bytes())
    content[-9] ^= 1
    (folder / file).write_bytes(content)
    changed = run_alone(folder, script, *words)
    assert (changed.returncode, "is not the file of this bundle" in changed.stderr) == (2, True), changed.stderr
    (folder / file).unlink()
    missing = run_alone(folder, script, *words)
    assert (missing.returncode, "is missing" in missing.stderr) == (2, True), missing.stderr


def test_what_people_edit_may_be_edited(bundles: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundles / "triton", tmp_path / "triton"))
    with (folder / "models" / "my_net" / "config.pbtxt").open("a") as file:
        file.write("instance_group { count: 2 kind: KIND_CPU }\n")
    assert run_alone(folder, "start_server.py", "--check").returncode == 0


def backend(folder: Path, tmp_path: Path) -> list[str]:
    """A folder of backends with the ONNX Runtime that is installed here, as options of the server."""
    import onnxruntime

    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (tmp_path / "backends" / "onnxruntime").mkdir(parents=True)
    (tmp_path / "backends" / "onnxruntime" / library.name).symlink_to(library)
    return ["--backend-directory", str(tmp_path / "backends")]


@pytest.mark.parametrize(
    ("version", "least", "code", "words"),
    [
        (None, None, 0, "serves it"),
        ("1.0.0", None, 0, "run the health check"),
        (None, "99.0", 2, "take a later server"),
    ],
)
def test_the_version_of_the_server_is_compared_with_the_one_it_was_made_with(
    bundles: Path, tmp_path: Path, version: str | None, least: str | None, code: int, words: str
) -> None:
    folder = Path(shutil.copytree(bundles / "triton", tmp_path / "triton"))
    record = json.loads((folder / "model.bundle.json").read_text())
    record["runtime"] |= {"version": version or record["runtime"]["version"], "least": least or "1.21"}
    (folder / "model.bundle.json").write_text(json.dumps(record))
    done = run_alone(folder, "start_server.py", "--check", *backend(folder, tmp_path))
    assert done.returncode == code, done.stderr
    assert words in done.stdout + done.stderr


def test_a_bundle_holds_nothing_that_is_left_from_another(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "other.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        normexport.convert(checkpoint, tmp_path, config=normexport.ConvertConfig(bundle="folder"))
    assert (tmp_path / "folder" / "other.txt").read_text() == "mine"
    (tmp_path / "folder" / "other.txt").unlink()
    config = normexport.ConvertConfig(bundle="folder")
    normexport.convert(checkpoint, tmp_path, config=config)
    normexport.convert(checkpoint, tmp_path, config=config)
    (tmp_path / "folder" / "model.plan").write_text("stale")
    with pytest.raises(UsageError, match=r"holds model\.plan, which is not of this bundle"):
        normexport.convert(checkpoint, tmp_path, config=config)


@pytest.mark.parametrize("kind", KINDS)
def test_a_move_that_fails_at_the_end_leaves_neither_model_nor_bundle(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    replace, moves = os.replace, list[Path]()

    def failing(source: Path, target: Path) -> None:
        if target.name == "model.bundle.json":  # the last of all
            moves.append(target)
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    config = normexport.ConvertConfig(bundle=kind, capsule=tmp_path / "capsules" / "c.npz")
    with pytest.raises(UsageError, match="can't be written"):
        normexport.convert(checkpoint, tmp_path / "out", config=config)
    assert moves
    assert list(tmp_path.iterdir()) == []


def test_kserve_compares_at_start_up_as_triton_does(bundles: Path, tmp_path: Path) -> None:
    """By the command line that KServe makes: the command of the service, the whole of its runtime's behind it."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install pyyaml")
    folder = Path(shutil.copytree(bundles / "kserve", tmp_path / "models"))
    service = yaml.safe_load((folder / "inference-service.yaml").read_text())
    python, script = service["spec"]["predictor"]["model"]["command"]
    assert (python, script) == ("python3", "/mnt/models/start_server.py")
    server = tmp_path / "tritonserver"
    server.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    server.chmod(0o755)
    words = ["tritonserver", "--model-store=/mnt/models", "--grpc-port=9000", "--http-port=8080", "--allow-http=true"]
    command = [sys.executable, str(folder / Path(script).name), *words]
    environment = {**os.environ, "NORMEXPORT_TRITON": str(server)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, *given = done.stdout.splitlines()
    assert first.startswith("the files are whole; ")
    assert given == [f"--model-repository={folder / 'models'}", *words[2:]]
    (folder / "models" / "my_net" / "1" / "model.onnx").write_bytes(b"other")
    refused = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "is not the file of this bundle" in refused.stderr


def test_a_repository_that_somebody_names_for_triton_is_the_servers(bundles: Path, tmp_path: Path) -> None:
    server = tmp_path / "tritonserver"
    server.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    server.chmod(0o755)
    done = subprocess.run(
        [sys.executable, str(bundles / "triton" / "start_server.py"), "--model-repository=/other"],
        env={**os.environ, "NORMEXPORT_TRITON": str(server)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[1:] == [f"--model-repository={bundles / 'triton' / 'models'}",
                                            "--model-repository=/other"]  # fmt: skip


def test_a_bundle_takes_the_place_of_no_input(bundles: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundles / "folder", tmp_path / "folder"))
    before = (folder / "model.onnx").read_bytes()
    with pytest.raises(UsageError, match="would take the place of"):
        normexport.convert(folder / "model.onnx", tmp_path, config=normexport.ConvertConfig(bundle="folder"))
    assert (folder / "model.onnx").read_bytes() == before


def test_a_model_that_failed_gets_no_bundle(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normexport.verbs.convert_stages.Proven.has_failed", True)
    normexport.convert(checkpoint, tmp_path, config=normexport.ConvertConfig(bundle="folder"))
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--bundle", "docker"], "is no kind of bundle"),
        (["--bundle-name", "net"], "has no bundle to go to"),
        (["--bundle", "triton", "--bundle-name", "../x"], "is not a name for a served model"),
        (["--bundle", "triton", "--bundle-name", 'a" }'], "is not a name for a served model"),
        (["--bundle", "triton", "--bundle-name", ""], "is not a name for a served model"),
        (["--bundle", "triton", "--bundle-name", "a" * 101], "is not a name for a served model"),
    ],
)
def test_what_can_not_be_bundled_is_refused_before_any_work(
    checkpoint: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    result = CliRunner().invoke(app, ["convert", str(checkpoint), "-o", str(tmp_path / "out"), *words])
    assert result.exit_code == ExitCode.USAGE
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_plan_that_triton_does_not_open_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: pip install 'normexport[rtx]'")
    config = normexport.ConvertConfig(bundle="triton", engine=normexport.EngineConfig(targets=("sm89",)))
    with pytest.raises(UsageError, match="enterprise TensorRT"):
        normexport.convert(checkpoint, tmp_path, config=config)


def test_without_samples_int8_has_a_bundle_and_a_note_in_place_of_its_capsule(tmp_path: Path, checkpoint: Path) -> None:
    config = normexport.ConvertConfig(bundle="folder", precision=normexport.Int8(method="norms", min_snr=1.0))
    normexport.convert(checkpoint, tmp_path, config=config)
    record = json.loads((tmp_path / "folder" / "model.bundle.json").read_text())
    assert record["verdict"] == "INCONCLUSIVE"
    assert "model.capsule.npz" not in record["files"]
    assert any("no capsule" in note for note in record["notes"])


def test_the_bill_of_materials_goes_with_it(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed: pip install 'normexport[sign]'")
    sealed_net.saved(sealed_net.trained(), tmp_path / "net.pt2")
    normexport.convert(tmp_path / "net.pt2", tmp_path, config=normexport.ConvertConfig(bundle="folder", bom=True))
    assert (tmp_path / "folder" / "model.cdx.json").read_bytes() == (tmp_path / "model.cdx.json").read_bytes()


@pytest.mark.parametrize(("norm", "shares"), [("L1InstanceNorm2d", True), ("LinfBatchNorm2d", False)])
def test_norms_that_stay_live_are_served_by_their_bodies(tmp_path: Path, norm: str, shares: bool) -> None:
    """Without the library the file runs on ONNX Runtime alone; what mixes the rows of a batch is never batched."""
    pytest.importorskip("tritonclient", reason="tritonclient is not installed: pip install 'normexport[serve]'")
    torch.manual_seed(0)
    how = {} if norm.startswith("L1Instance") else {"track_running_stats": False}
    layers = nn.Conv2d(3, 4, 3, padding=1), getattr(nxn, norm)(4, **how), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)
    network = nn.Sequential(*layers).eval()
    for kind in ("folder", "triton"):
        done = normexport.convert(network, tmp_path, ["3x8x8"], normexport.ConvertConfig(bundle=kind))
        assert done.passed
        assert [outcome.fate for outcome in done.outcomes] == ["live"]
    ran = run_alone(tmp_path / "folder", "run_model.py", "--capsule", "model.capsule.npz", tmp_path / "results.npz")
    assert ran.returncode == 0, ran.stderr
    assert normexport.prove(tmp_path / "folder" / "model.capsule.npz", tmp_path / "results.npz").passed
    (config,) = (tmp_path / "triton" / "models").glob("*/config.pbtxt")
    assert (config_of(config).max_batch_size > 0) == shares
