"""`convert --bom`: a document that CycloneDX's own validator takes, and whose hashes are those of the files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import normexport
from tests.capsule import sealed_net

pytestmark = pytest.mark.slow

pytest.importorskip("cyclonedx", reason="cyclonedx-python-lib is not installed: pip install 'normexport[sign]'")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bom")
    sealed_net.saved(sealed_net.trained(), folder / "net.pt2")
    for name in ("one", "two"):
        normexport.convert(folder / "net.pt2", folder / name, config=normexport.ConvertConfig(bom=True))
    return folder


@pytest.fixture
def document(made: Path) -> Any:
    return json.loads((made / "one" / "model.cdx.json").read_text())


def test_the_schemas_own_validator_takes_it(made: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (made / "one" / "model.cdx.json").read_text()
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(text) is None
    wrong = text.replace('"machine-learning-model"', '"model"')
    assert wrong != text
    assert validator.validate_str(wrong) is not None


def test_it_is_of_a_model_with_the_hashes_of_its_files(made: Path, document: Any) -> None:
    model = document["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    digest = hashlib.sha256((made / "one" / "model.onnx").read_bytes()).hexdigest()
    assert model["hashes"] == [{"alg": "SHA-256", "content": digest}]
    for part in model["components"]:
        content = (made / "one" / part["name"]).read_bytes()
        assert part["hashes"][0]["content"] == hashlib.sha256(content).hexdigest()
    (source,) = model["pedigree"]["ancestors"]
    assert source["hashes"][0]["content"] == hashlib.sha256((made / "net.pt2").read_bytes()).hexdigest()


def test_its_card_says_what_goes_in_and_out_and_what_was_proven(document: Any) -> None:
    card = document["metadata"]["component"]["modelCard"]
    assert [each["format"] for each in card["modelParameters"]["inputs"]] == ["x: float32[batch,3,8,8]"]
    assert len(card["modelParameters"]["outputs"]) == 3
    assert card["quantitativeAnalysis"]["performanceMetrics"] == [{"type": "parity", "value": "PASSED"}]


def test_the_packages_are_those_of_the_report(made: Path, document: Any) -> None:
    versions = json.loads((made / "one" / "report.json").read_text())["provenance"]["versions"]
    assert {each["name"]: each["version"] for each in document["components"]} == versions


def test_the_same_conversion_has_the_same_bytes(made: Path) -> None:
    one, two = ((made / name / "model.cdx.json").read_bytes() for name in ("one", "two"))
    assert one == two
