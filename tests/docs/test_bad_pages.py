"""A block that is wrong is told; so is a mark that means nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from normexport.errors import ExitCode
from tests.docs.blocks import BadPage, read_blocks
from tests.docs.figures import without_figures
from tests.docs.pages import run_page
from tests.docs.test_pages import wrong_with
from tests.docs.write import renewed

pytestmark = pytest.mark.slow

GOOD = """
A page.

```python
class Pair:
    def __init__(self, left: int) -> None:
        self.left = left

pair = Pair(3)
```

    echo one; echo two >&2
    for number in 1 2; do
        echo "$number"
    done

```text
one
two
1
2
```

```python
import pickle

print(pickle.loads(pickle.dumps(pair)).left)  # 3
```

<!-- ends: USAGE -->

    normexport inspect  # a comment's quote is no quote

<!-- not run: gpu, normexport run -->
<!-- ends: CHECKPOINT -->

    normexport run model.plan \\
        --inputs in.npz
    echo kept
    normexport inspect nowhere.pt2
"""


def failures(page: str, folder: Path) -> list[str]:
    return wrong_with(run_page(page, folder))


def test_a_page_shares_names_folder_and_order(tmp_path: Path) -> None:
    ran = run_page(GOOD.replace("ends: CHECKPOINT", "ends: USAGE"), tmp_path)
    assert wrong_with(ran) == []
    assert len(ran) == 5
    assert ran[-1].printed.startswith("kept\n")
    assert "nowhere.pt2" in ran[-1].printed


@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        ("self.left = left", "self.left = right", "NameError"),
        ("\none\n", "\nnone\n", "shows"),
        (".left)  # 3", ".left)  # 4", "shows"),
        ("ends: USAGE", "ends: REFUSED", "ended with 2 instead of 4"),
        ("echo kept", "false", "ended with 1 instead of 0"),
        ("echo one; ", "no-such-command; ", "ended with 127"),
        ("normexport inspect  #", "normexport inspekt  #", "ended with 2"),
    ],
)
def test_a_wrong_block_is_told_by_its_line(good: str, bad: str, told: str, tmp_path: Path) -> None:
    page = GOOD.replace("ends: CHECKPOINT", "ends: USAGE").replace(good, bad, 1)
    if told == "ended with 2":
        page = page.replace("ends: USAGE", "ends: GOOD", 1)
    (failure,) = failures(page, tmp_path)
    assert told in failure
    assert failure.startswith("line ")


def test_a_page_whose_process_dies_has_failed(tmp_path: Path) -> None:
    (failure,) = failures("```python\nimport os\nos._exit(0)\n```\n", tmp_path)
    assert "process ended with 0" in failure


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("<!-- not run: gpus -->\n\n    ls\n", "no reason"),
        ("<!-- not run: gpu, cd -->\n\n    ls\n", "no line begins"),
        ("<!-- not run: gpu -->\n\nWords.\n\n    ls\n", "no block"),
        ("    ls\n\n<!-- not run: gpu -->\n", "at the end"),
        ("<!-- ends: 3 -->\n\n    ls\n", "no exit code"),
        ("```text\nout\n```\n", "output of no block"),
        ("<!-- not run: gpu -->\n\n    ls\n\n```text\nout\n```\n", "output of no block"),
        ("```rust\nfn main() {}\n```\n", "nothing runs 'rust'"),
        ("    ls\n\n<!-- not compared: because -->\n\n```text\nout\n```\n", "no reason"),
    ],
)
def test_a_mark_that_means_nothing_is_refused(page: str, told: str) -> None:
    with pytest.raises(BadPage, match=told):
        read_blocks(page)


def test_marks_are_read_into_the_block_behind_them() -> None:
    (block,) = read_blocks("Words.\n\n<!-- ends: FAILED -->\n\n```bash\nfalse\n```\n\n```text\nnothing\n```\n")
    assert (block.line, block.ends, block.shown, block.shown_at) == (6, ExitCode.FAILED, "nothing\n", (9, 10))


def test_counts_are_compared_and_measured_figures_are_not() -> None:
    def same(one: str, other: str) -> bool:
        return without_figures(one) == without_figures(other)

    assert same("took 3.1 s, 1.0e-06 rms, 23 %,\n 7 kB", "took 12.75 s, 2e-7 rms, 4 %, 12 kB")
    assert same("speed 1035 samples/s", "speed 485.3 samples/s")
    assert same("worst: layer1.first, 23 % of its\nbudget", "worst: head, 3 % of its budget")
    assert not same("6 of 6 norms folded", "5 of 6 norms folded")
    assert not same("parity PASSED", "parity FAILED")
    assert not same("ended with 3", "ended with 4")


def test_what_a_block_prints_is_written_under_it(tmp_path: Path) -> None:
    page = "    echo new; echo line\n\n```text\nold\n```\n\n    echo 1.5\n\n```text\n1.4\n```\n"
    assert renewed(page, run_page(page, tmp_path)) == page.replace("old", "new\nline")
