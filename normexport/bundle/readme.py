"""The README.md of a bundle: what lies there, how it is served, and how it is seen to be right where it is served."""

from __future__ import annotations

from normexport.bundle.content import Content, kserve_name


def readme(kind: str, content: Content) -> str:
    """The text, for one of `KINDS`."""
    runtime, version = content.runtime
    lines = [
        f"# {content.name}",
        "",
        f"Made by normexport {content.record['versions']['normexport']}; the verdict of its proof: {content.verdict}.",
        f"Proven with {_TITLES[runtime]} {version}." if content.manifest is None else f"Built by TensorRT {version}.",
        "`model.bundle.json` has all versions, options and hashes.",
        "",
        *{"triton": _triton, "kserve": _kserve, "folder": _folder}[kind](content),
        "",
        "## Is it right here?",
        "",
        *_health(kind, content),
    ]
    if content.notes:
        lines += ["", "## To know", "", *(f"- {note}" for note in content.notes)]
    return "\n".join(lines) + "\n"


_TITLES = {"onnxruntime": "ONNX Runtime", "tensorrt": "TensorRT"}


def _triton(content: Content) -> list[str]:
    return [
        "## Serve it",
        "",
        "    docker run --rm --gpus all -p 8000:8000 -p 8001:8001 -v $PWD:/bundle nvcr.io/nvidia/tritonserver:TAG \\",
        "        python3 /bundle/start_server.py",
        "",
        "`start_server.py` compares files and versions with what the model was made with, preloads the plugin library",
        "where there is one, and starts Triton on `models/`. `start_server.py --check` compares and leaves.",
        *_batching(content),
    ]


def _kserve(content: Content) -> list[str]:
    return [
        "## Serve it",
        "",
        "Copy this folder to your storage, write its place into `storageUri` of `inference-service.yaml`,",
        "and apply it:",
        "",
        "    kubectl apply -f inference-service.yaml",
        f"    kubectl wait --for=condition=Ready inferenceservice/{kserve_name(content.name)}",
        "",
        "It asks for KServe's Triton runtime, and has it begin with `start_server.py`: that compares files and",
        "versions with what the model was made with, preloads the plugin library where there is one, and starts",
        "Triton on `models/`. A pod in which something does not fit does not start; its log says what it is.",
        *_batching(content),
    ]


def _folder(content: Content) -> list[str]:
    plan = (
        ["", "`model.plan` is run on its GPU by `normexport run model.plan`."] if "model.plan" in content.files else []
    )
    return [
        "## Run it",
        "",
        "    pip install numpy onnxruntime",
        "    python run_model.py inputs.npz outputs.npz",
        *plan,
    ]


def _batching(content: Content) -> list[str]:
    batching = content.batching
    words = (
        f"Requests share batches of up to {batching.most}: in float64 a sample gave the same alone and beside others."
        if batching.most
        else f"Requests are not put into one batch: {batching.reason}."
    )
    return ["", words]


def _health(kind: str, content: Content) -> list[str]:
    if content.capsule is None:
        return ["There is no capsule in this folder; the notes below say why."]
    if kind == "folder":
        return [
            "    python run_model.py --capsule model.capsule.npz results.npz",
            "    normexport prove model.capsule.npz results.npz",
        ]
    return [
        "    pip install 'normexport[serve]'",
        f"    normexport prove model.capsule.npz --url http://localhost:8000/{content.name}",
        f"    normexport prove model.capsule.npz --url grpc://localhost:8001/{content.name}",
        "",
        "Exit code 0: the server's answers are within the budgets of the proof, 1: they are not, 2: it is not there.",
    ]
