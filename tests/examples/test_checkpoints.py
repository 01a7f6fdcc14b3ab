"""The committed example checkpoints are what `examples/checkpoints/index.json` says they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import normexport.checkpoint
from examples import data, index
from examples.recipes import RECIPES
from normexport.errors import CheckpointError
from normexport.norms import KINDS
from tests.narrow import present

pytestmark = pytest.mark.slow

FOLDER = Path(index.__file__).with_name("checkpoints")
ENTRIES = json.loads((FOLDER / "index.json").read_text())
#: float32 sums in another order (another CPU, another PyTorch) can turn a tie, not more.
TURNED = 1


@pytest.fixture(scope="module")
def split() -> tuple[data.Images, data.Images]:
    return data.load()


def load(file: str) -> normexport.checkpoint.Checkpoint:
    entry = ENTRIES[file]
    arguments = {name: entry[name] for name in ("model", "model_kwargs", "dialect")}
    return normexport.checkpoint.load(FOLDER / file, **arguments)


def logits(checkpoint: normexport.checkpoint.Checkpoint, images: np.ndarray) -> torch.Tensor:
    network = checkpoint.program.module() if checkpoint.program is not None else present(checkpoint.model)
    with torch.no_grad():
        return network(torch.from_numpy(images))


@pytest.mark.parametrize("file", ENTRIES)
def test_checkpoint_has_the_recorded_accuracy_on_the_test_images(
    file: str, split: tuple[data.Images, data.Images]
) -> None:
    _, test = split
    entry = ENTRIES[file]
    correct = int((logits(load(file), test.input).argmax(1).numpy() == test.labels).sum())
    assert abs(correct - entry["correct"]) <= TURNED
    assert len(test.labels) == entry["test_images"] == 1000
    assert entry["accuracy"] == entry["correct"] / 1000 > 0.95


@pytest.mark.parametrize("file", ENTRIES)
def test_every_norm_found_in_a_checkpoint_is_of_the_recorded_kind(file: str) -> None:
    entry = ENTRIES[file]
    kind, _, instance = entry["kind"].partition("_")
    norms = load(file).norms
    # A foreign layout does not say which statistic was trained; a network of our norms does.
    expected = set() if kind == "none" else {"unknown" if "layout" in (entry["model_kwargs"] or {}) else kind}
    assert {norm.kind for norm in norms} == expected
    assert {norm.statistics for norm in norms} <= {"instance" if instance else "running"}
    assert not [norm.health for norm in norms if norm.health]


def test_a_foreign_layout_holds_the_same_network_as_its_original(split: tuple[data.Images, data.Images]) -> None:
    _, test = split
    for foreign, original in (
        ("residual_l1_lp-norm.pt", "residual_l1.pt2"),
        ("plain_topk_convnet-lp.pt", "plain_topk.pt2"),
    ):
        theirs, ours = (logits(load(file), test.input[:64]) for file in (foreign, original))
        assert (theirs - ours).abs().max() <= 1e-5 * ours.abs().max()


def test_running_var_that_is_no_variance_needs_a_dialect_and_the_wrong_one_is_useless(
    split: tuple[data.Images, data.Images],
) -> None:
    _, test = split
    file = "plain_topk_convnet-lp.pt"
    arguments = {name: ENTRIES[file][name] for name in ("model", "model_kwargs")}
    with pytest.raises(CheckpointError, match=r"--dialect .*convnet-lp"):
        normexport.checkpoint.load(FOLDER / file, **arguments)
    misread = normexport.checkpoint.load(FOLDER / file, dialect="batchnorm", **arguments)
    correct = (logits(misread, test.input).argmax(1).numpy() == test.labels).sum()
    assert correct < 500  # of 1000, where the right reading has more than 950


def test_recipes_index_and_folder_list_the_same_files() -> None:
    files = {path.name for path in FOLDER.iterdir()} - {"index.json"}
    assert files == set(ENTRIES) == {recipe.file for recipe in RECIPES.values()}


def test_checkpoints_cover_every_kind_and_every_source() -> None:
    kinds = {(entry["network"], entry["kind"]) for entry in ENTRIES.values()}
    assert kinds >= {(network, kind) for network in ("plain", "residual") for kind in KINDS}
    assert {load(file).source for file in ENTRIES} == {"program", "module", "state_dict"}


def test_checkpoints_are_small_and_as_large_as_recorded() -> None:
    sizes = {file: (FOLDER / file).stat().st_size for file in ENTRIES}
    assert sizes == {file: entry["bytes"] for file, entry in ENTRIES.items()}
    assert max(sizes.values()) < 1_000_000


def test_checkpoints_name_no_folder_of_the_machine_that_trained() -> None:
    for file in ENTRIES:
        content = (FOLDER / file).read_bytes()
        assert b"site-packages" not in content, file
        assert b"networks.py" not in content, file


def test_readme_shows_the_table_of_the_index() -> None:
    assert index.table(ENTRIES) in index.README.read_text()


def test_training_and_test_images_are_disjoint_and_balanced(split: tuple[data.Images, data.Images]) -> None:
    training, test = split
    assert np.bincount(training.labels).tolist() == [400] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    seen = {image.tobytes() for image in training.input}
    assert not seen & {image.tobytes() for image in test.input}
    for images in split:
        assert images.input.dtype == np.float32
        assert (images.input.min(), images.input.max()) == (0, 1)


def test_digits_file_holds_the_first_test_images(split: tuple[data.Images, data.Images]) -> None:
    _, test = split
    with np.load(data.DIGITS) as digits:
        assert set(digits) == {"input", "labels"}
        np.testing.assert_array_equal(digits["input"], test.input[:64])
        np.testing.assert_array_equal(digits["labels"], test.labels[:64])
    assert data.DIGITS.stat().st_size < 60_000
