"""A bill of materials of a converted model: CycloneDX 1.6, a machine-learning model with what it was made from and by.

The same conversion gives the same bytes: no time is in it, and its serial number follows from the model's hash.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from normexport.engine.manifest import FileId
from normexport.errors import MissingComponent
from normexport.provenance.record import Provenance

_SERIALS = uuid.UUID("7d1f0d0e-5a56-4bd6-9a4c-2f4f0a4d7c11")  # a name space of our own for serial numbers


def require_cyclonedx() -> None:
    """Tell before any work that what makes the document is missing.

    Raises:
        MissingComponent: cyclonedx-python-lib is not installed.
    """
    try:
        import cyclonedx.model.bom  # noqa: F401  (asks whether it is there)
    except ImportError as error:
        raise MissingComponent.of("cyclonedx-python-lib", "sign") from error


def bom_text(
    name: str,
    origin: Provenance,
    model: FileId,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    verdicts: Sequence[tuple[str, str]],
) -> str:
    """The document, JSON.

    Args:
        name: of the model.
        origin: of the conversion; what it made are files of the model.
        model: the ONNX file.
        inputs, outputs: "float32[batch,3,224,224]" by name.
        verdicts: what was proven, (kind, verdict).
    """
    require_cyclonedx()
    from cyclonedx.model.bom import Bom
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    subject = _model(name, origin, model)
    bom = Bom(serial_number=uuid.uuid5(_SERIALS, model.sha256), components=_packages(origin))
    bom.metadata.component = subject
    bom.register_dependency(subject, bom.components)
    document = json.loads(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    document["metadata"].pop("timestamp", None)
    # The library has no model cards; the schema has.
    document["metadata"]["component"]["modelCard"] = {
        "modelParameters": {
            "inputs": [{"format": f"{port}: {kind}"} for port, kind in inputs.items()],
            "outputs": [{"format": f"{port}: {kind}"} for port, kind in outputs.items()],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [{"type": kind, "value": verdict} for kind, verdict in verdicts]
        },
    }
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=True) + "\n"


def _model(name: str, origin: Provenance, model: FileId) -> Any:
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.component import Component, ComponentType, Pedigree

    def hashed(file: FileId) -> list[Any]:
        return [HashType(alg=HashAlgorithm.SHA_256, content=file.sha256)]

    def part(file: FileId, role: str) -> Any:
        return Component(name=file.file, type=ComponentType.FILE, hashes=hashed(file), bom_ref=f"{role}:{file.sha256}")

    options = json.dumps(origin.options, sort_keys=True, separators=(",", ":"))
    return Component(
        name=name,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{model.sha256}",
        hashes=hashed(model),
        components=[part(file, "file") for file in _each_once(origin.outputs)],
        pedigree=Pedigree(ancestors=[part(file, "source") for file in _each_once(origin.source)]),
        properties=[Property(name="normexport:options", value=options)],
    )


def _each_once(files: Sequence[FileId]) -> list[FileId]:
    """One of files with the same bytes: a reference in the document is their hash."""
    return list({file.sha256: file for file in files}.values())


def _packages(origin: Provenance) -> list[Any]:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return [
        Component(
            name=package,
            version=version,
            type=ComponentType.LIBRARY,
            bom_ref=f"pkg:{package}",
            purl=PackageURL("pypi", None, package, version),
        )
        for package, version in sorted(origin.versions.items())
    ]
