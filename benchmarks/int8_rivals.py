"""int8 by ONNX Runtime, NNCF, ModelOpt, Quark and ours: SNR, agreement, size, speed, and what quantising took.

    PYTHONPATH=.:benchmarks python benchmarks/int8_rivals.py OUT --wheels WHEELS [--only NAME ...] [--candidates ...]

Every candidate gets the same float32 file and the same calibration samples and is judged on the same others, which none
has seen. OUT keeps a file of results a network; what is there is not run again (--again does). WHEELS is a folder with
the wheels of `rivals/photographs.py` and of the networks. Each tool runs in an environment of its own below OUT, made
when it is first wanted, or that of --python TOOL=PYTHON. --table prints what OUT holds, and runs nothing; --race only
measures the latency of files that OUT holds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from rivals.judge import outputs_of, quality, race
from rivals.networks import Network, networks
from rivals.quantise import CANDIDATES
from rivals.table import tables

#: What an environment of a tool consists of; ours and ONNX Runtime run in this one.
REQUIREMENTS = {
    "nncf": ("nncf==3.4.0", "onnx", "onnxruntime", "openvino"),
    "modelopt": ("torch==2.13.0", "nvidia-modelopt[onnx]==0.47.0"),
    "quark": ("torch==2.13.0", "amd-quark==0.13", "onnxruntime==1.28.0"),
}
LIMIT = 3600  # seconds that one candidate may take


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--wheels", type=Path, default=Path("wheels"))
    parser.add_argument("--only", nargs="*", default=[], help="networks whose name holds one of these")
    parser.add_argument("--candidates", nargs="*", default=[], help="candidates whose name holds one of these")
    parser.add_argument("--python", nargs="*", default=[], metavar="TOOL=PYTHON")
    parser.add_argument("--again", action="store_true", help="run what was run already")
    parser.add_argument("--no-race", action="store_true", help="measure no latency")
    parser.add_argument("--race", action="store_true", help="quantise nothing: measure the latency of what is there")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    options.out = options.out.resolve()
    if not options.table:
        pythons = dict(each.split("=", 1) for each in options.python)
        for network in networks():
            if options.only and not any(word in network.name for word in options.only):
                continue
            if options.race:
                race_network(network, options)
            else:
                run_network(network, options, pythons)
    print(tables(options.out))
    return 0


def run_network(network: Network, options: argparse.Namespace, pythons: dict[str, str]) -> None:
    """Fill in the network's file of results."""
    folder = options.out / network.name
    results = folder / "results.json"
    rows: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    wanted = [name for name in CANDIDATES if (options.again or name not in rows) and is_asked_for(name, options)]
    if not wanted:
        return
    float32 = prepare(network, folder, options.wheels)
    judged = dict(np.load(folder / "judged.npz"))
    exact = outputs_of(float32, judged, network.batch)
    for name in wanted:
        rows[name] = run_candidate(name, network, folder, judged, exact, pythons, options)
        note_down(results, name, rows[name])


def race_network(network: Network, options: argparse.Namespace) -> None:
    """Measure again how fast the candidates' files are."""
    folder = options.out / network.name
    results = folder / "results.json"
    if not results.exists():
        return
    judged = dict(np.load(folder / "judged.npz"))
    for name, row in json.loads(results.read_text()).items():
        target = file_of(folder, name)
        if "failed" not in row and target.exists() and is_asked_for(name, options):
            raced = race(folder / "float32.onnx", target, judged, network.batch)
            note_down(results, name, {**row, **raced})


def is_asked_for(name: str, options: argparse.Namespace) -> bool:
    return not options.candidates or any(word in name for word in options.candidates)


def file_of(folder: Path, name: str) -> Path:
    """What a candidate makes of the network in a folder."""
    return folder / f"{name.replace(' ', '-')}.onnx"


def note_down(results: Path, name: str, row: dict[str, Any]) -> None:
    """One row into the file of results, to which another run may have added meanwhile."""
    print(results.parent.name, name, json.dumps(row), flush=True)
    done = json.loads(results.read_text()) if results.exists() else {}
    results.write_text(json.dumps({**done, name: row}, indent=1) + "\n")


def prepare(network: Network, folder: Path, wheels: Path) -> Path:
    """The float32 file, with its samples beside it; made once."""
    float32 = folder / "float32.onnx"
    if not float32.exists():
        folder.mkdir(parents=True, exist_ok=True)
        prepared = network.prepare(wheels)
        np.savez(folder / "calibration.npz", allow_pickle=False, **prepared.calibration)
        np.savez(folder / "judged.npz", allow_pickle=False, **prepared.judged)
        onnx.save(prepared.model, float32)
    return float32


def run_candidate(
    name: str,
    network: Network,
    folder: Path,
    judged: dict[str, Any],
    exact: list[Any],
    pythons: dict[str, str],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """One row: what quantising took and what came of it, or why there is nothing."""
    target = file_of(folder, name)
    target.unlink(missing_ok=True)
    try:
        python = python_of(CANDIDATES[name][0].__name__, options.out, pythons)
    except subprocess.CalledProcessError as error:
        return {"failed": f"does not install: {_last_line(error.stderr)}"}
    words = [python, str(ROOT / "benchmarks/rivals/quantise.py"), name]
    files = [str(each) for each in (folder / "float32.onnx", folder / "calibration.npz", target)]
    try:
        environment = {**_environment(), "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}"}
        done = subprocess.run(  # in its folder: some leave files where they run
            [*words, *files],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env=environment,
            cwd=folder,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took over {LIMIT} s"}
    if done.returncode or not target.exists():
        return {"failed": _last_line(done.stderr or done.stdout)}
    row = dict(json.loads(done.stdout.strip().splitlines()[-1]))
    try:
        row |= quality(target, judged, network.batch, network.classes, exact)
    except Exception as error:  # what ONNX Runtime says of a tool's file
        return {**row, "failed": repr(error).splitlines()[0][:160]}
    return row if options.no_race else {**row, **race(folder / "float32.onnx", target, judged, network.batch)}


def python_of(tool: str, out: Path, pythons: dict[str, str]) -> str:
    """The interpreter that has a tool, made where it is not yet."""
    if tool in pythons or tool not in REQUIREMENTS:
        return pythons.get(tool, sys.executable)
    folder = out / "environments" / tool
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS[tool]]
        subprocess.run(install, check=True, capture_output=True, text=True)
        (folder / "complete").touch()
    return str(python)


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["ended without a word"])[-1][:160]


if __name__ == "__main__":
    sys.exit(main())
