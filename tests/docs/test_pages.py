"""Every block of the README and of docs/ runs, and prints what the page says it prints."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from normexport import plugins
from tests.docs import materials as files
from tests.docs.blocks import REASONS, VARYING, promised, read_blocks
from tests.docs.figures import without_figures
from tests.docs.pages import PAGES, ROOT, Ran, lay_out, run_page

pytestmark = pytest.mark.slow

TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
BLOCKS = {name: read_blocks(text) for name, text in TEXTS.items()}
RUN = [name for name, blocks in BLOCKS.items() if any(not block.is_left_alone for block in blocks)]
#: Pages that compute with the native libraries.
NATIVE = {"docs/plugins.md", "docs/training.md", "docs/tutorials/live-norms.md"}


@pytest.fixture(scope="module")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that stand for a reader's own. Pages get copies."""
    folder = tmp_path_factory.mktemp("materials")
    files.make(folder)
    return folder


def wrong_with(ran: list[Ran]) -> list[str]:
    """What is wrong with a page, a text for each block."""
    found = []
    for each in ran:
        expected = promised(each.block)
        if each.problem is not None:
            found.append(f"line {each.block.line}: {each.problem}\n{each.printed}")
        elif expected is not None and without_figures(expected) != without_figures(each.printed):
            found.append(f"line {each.block.line} shows\n{expected}\nand prints\n{each.printed}")
    return found


@pytest.mark.parametrize("page", RUN)
def test_every_block_of_a_page_runs_and_prints_what_is_shown(page: str, materials: Path, tmp_path: Path) -> None:
    if page in NATIVE:
        for name in ("kernels", "onnxruntime"):
            if plugins.find(name) is None:
                pytest.skip(f"the native library {name} is not built: normexport plugins build")
    lay_out(TEXTS[page], materials, tmp_path)
    ran = run_page(TEXTS[page], tmp_path)
    assert not wrong_with(ran), "\n\n".join(wrong_with(ran))
    assert len(ran) == len([block for block in BLOCKS[page] if not block.is_left_alone])


def test_what_is_left_alone_is_counted() -> None:
    """Another block that is not run is another line here, with its reason in the page."""
    skips = [skip for blocks in BLOCKS.values() for block in blocks for skip in block.skips]
    assert Counter(skip.reason for skip in skips) == {
        "ci": 7,
        "minutes": 7,
        "install": 6,
        "gpu": 6,
        "formula": 5,
        "nvcc": 5,
        "server": 3,
        "cluster": 3,
        "compiled": 1,
        "nvidia": 1,
    }
    assert {skip.reason for skip in skips} == set(REASONS)
    varying = [block.varies for blocks in BLOCKS.values() for block in blocks if block.varies is not None]
    assert Counter(varying) == {"machine": 1, "timings": 1}
    assert set(varying) == set(VARYING)
