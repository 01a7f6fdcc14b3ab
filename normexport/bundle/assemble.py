"""What is to be served -> the files of a bundle by their paths in it: bytes, or the file that each is a copy of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normexport.bundle.content import LEAST_ONNXRUNTIME, Content, kserve_name
from normexport.bundle.readme import readme
from normexport.bundle.triton import parameters, repository
from normexport.engine.manifest import FileId

FORMAT = 1

#: Files that people edit, so that their hash says nothing.
_EDITED = (".pbtxt", ".yaml", ".md", ".txt")

_SCRIPTS = Path(__file__).parent

Files = dict[str, bytes | Path]


def assemble(kind: str, content: Content) -> Files:
    """The files of a bundle of one of `KINDS`, `model.bundle.json` last.

    Raises:
        MissingComponent: tritonclient is not installed, whose protobuf checks what is for Triton or KServe.
        UsageError: the model has an input or output of a type that servers do not know.
    """
    files: Files = {}
    if kind == "folder":
        files |= content.files
        for number, labels in enumerate(content.labels.values()):
            files[f"labels_{number}.txt"] = "".join(f"{' '.join(label.split())}\n" for label in labels).encode()
        files["run_model.py"] = _SCRIPTS / "run_model.py"
    else:
        files |= {f"models/{content.name}/{name}": given for name, given in repository(content).items()}
        files |= {f"plugins/{name}": path for name, path in content.files.items() if name.endswith(".so")}
        files["start_server.py"] = _SCRIPTS / "start_server.py"
        if kind == "kserve":
            files["inference-service.yaml"] = _inference_service(content).encode()
    files |= content.beside
    if content.capsule is not None:
        files["model.capsule.npz"] = content.capsule
    files["README.md"] = readme(kind, content).encode()
    files["model.bundle.json"] = _record(kind, content, files).encode()
    return files


def _inference_service(content: Content) -> str:
    """An InferenceService; scalars are written as JSON strings, which YAML reads as such whatever is in them."""
    lines = [
        "apiVersion: serving.kserve.io/v1beta1",
        "kind: InferenceService",
        "metadata:",
        f"  name: {json.dumps(kserve_name(content.name))}",
        "  annotations:",
        *(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(parameters(content).items())),
        "spec:",
        "  predictor:",
        "    model:",
        '      modelFormat: {name: triton, version: "2"}',
        "      protocolVersion: v2",
        "      runtime: kserve-tritonserver",
        '      storageUri: "pvc://CLAIM/FOLDER"  # the place that this folder was copied to',
        # KServe puts the options of its runtime behind the command; the script starts the server with them.
        '      command: ["python3", "/mnt/models/start_server.py"]',
    ]
    if content.manifest is not None:
        lines += ["      resources:", '        limits: {nvidia.com/gpu: "1"}']
    return "\n".join(lines) + "\n"


def _record(kind: str, content: Content, files: Mapping[str, bytes | Path]) -> str:
    """`model.bundle.json`: what the model was made from and by, what must serve it, the hash of every other file."""
    runtime, version = content.runtime
    manifest = content.manifest
    served: dict[str, Any] = {"name": runtime, "version": version, "least": LEAST_ONNXRUNTIME}
    served["version_compatible"] = bool(manifest is not None and manifest.options.get("version_compatible"))
    host_code = manifest is not None and manifest.host_code
    document = {
        "format": FORMAT,
        "kind": kind,
        "name": content.name,
        "verdict": content.verdict,
        "runtime": served,
        "batching": {"most": content.batching.most, "reason": content.batching.reason},
        "preload": [name for name in files if name.startswith("plugins/")],
        # Triton opens a plan that holds a plugin library only with this.
        "server_options": ["--backend-config=tensorrt,version-compatible=true"] if host_code else [],
        "provenance": content.record,
        "notes": list(content.notes),
        "files": {name: _known(name, given) for name, given in sorted(files.items())},
    }
    return json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _known(name: str, given: bytes | Path) -> dict[str, Any]:
    if isinstance(given, Path):
        file = FileId.of(given)
        return {"bytes": file.bytes, "sha256": file.sha256, "edited": False}
    return {"bytes": len(given), "sha256": hashlib.sha256(given).hexdigest(), "edited": name.endswith(_EDITED)}
