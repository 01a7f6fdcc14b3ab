"""Run the model of this folder on the arrays of a file. Needs numpy and onnxruntime alone.

    python run_model.py inputs.npz outputs.npz
    python run_model.py --capsule model.capsule.npz outputs.npz

One array an input by its name, batch included; one an output. The second form runs all inputs of the capsule, whose
outputs `normexport prove model.capsule.npz outputs.npz` judges. Exit code 2 says in one line what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

HERE = os.path.dirname(os.path.abspath(__file__))


def main() -> None:
    words = sys.argv[1:]
    of_capsule = words[:1] == ["--capsule"]
    words = words[of_capsule:]
    if len(words) != 2:
        leave("give two files: python run_model.py inputs.npz outputs.npz")
    import numpy as np
    import onnxruntime

    with open(os.path.join(HERE, "model.bundle.json"), encoding="utf-8") as file:
        bundle = json.load(file)
    check_files(bundle)
    check_version(bundle["runtime"], onnxruntime.__version__)
    session = onnxruntime.InferenceSession(os.path.join(HERE, "model.onnx"), providers=["CPUExecutionProvider"])
    inputs = [each.name for each in session.get_inputs()]
    results = {}
    try:
        with np.load(words[0], allow_pickle=False) as arrays:
            for prefix, feeds in (
                capsule_runs(arrays) if of_capsule else [("", {name: arrays[name] for name in inputs})]
            ):
                results.update(run(session, prefix, feeds))
    except (OSError, ValueError, KeyError) as error:
        leave(f"{words[0]}: can't be read ({error})")
    with open(words[1], "wb") as file:
        np.savez(file, **results)


def capsule_runs(arrays: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what stands before the outputs' names, inputs) of each run of a capsule."""
    for number, run in enumerate(json.loads(arrays["capsule"].tobytes())["runs"]):
        yield f"{number}/", {each["name"]: arrays[each["values"]] for each in run["inputs"]}


def run(session: Any, prefix: str, feeds: dict[str, Any]) -> dict[str, Any]:
    names = [each.name for each in session.get_outputs()]
    try:
        values = session.run(names, feeds)
    except Exception as error:  # ONNX Runtime has a class of its own for each failure
        leave(f"the inputs do not fit the model ({str(error).splitlines()[0]})")
    return {prefix + name: value for name, value in zip(names, values, strict=True)}


def check_files(bundle: dict[str, Any]) -> None:
    """The model is the one of the bundle."""
    for name, known in sorted(bundle["files"].items()):
        if not name.startswith("model.onnx"):
            continue
        path = os.path.join(HERE, name)
        if not os.path.isfile(path):
            leave(f"{name} is missing; copy the folder again")
        with open(path, "rb") as file:
            digest = hashlib.sha256()
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        if digest.hexdigest() != known["sha256"]:
            leave(f"{name} is not the file of this bundle; copy the folder again")


def check_version(runtime: dict[str, Any], has: str) -> None:
    if parts(has) < parts(runtime["least"]):
        leave(f"the file needs ONNX Runtime {runtime['least']}, and {has} is installed")
    if parts(has)[:2] != parts(runtime["version"])[:2]:
        sys.stderr.write(f"proven with ONNX Runtime {runtime['version']}, run by {has}: judge it by the capsule\n")


def parts(version: str) -> tuple[int, ...]:
    return tuple(int(word) for word in version.split("+")[0].split(".")[:3] if word.isdigit())


def leave(words: str) -> NoReturn:
    sys.stderr.write(f"run_model.py: {words}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
