"""Write into pages what their blocks print: python -m tests.docs.write [--figures] PAGE [PAGE ...].

Where nothing but figures differs the page is left as it is, unless they are asked for: on an idle machine.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.docs.figures import without_figures
from tests.docs.materials import make
from tests.docs.pages import Ran, lay_out, run_page


def main(pages: list[Path], figures: bool) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as materials:
        make(Path(materials))
        for page in pages:
            with tempfile.TemporaryDirectory() as folder:
                text = page.read_text()
                lay_out(text, Path(materials), Path(folder))
                ran = run_page(text, Path(folder))
            page.write_text(renewed(text, ran, figures))
            wrong = [each for each in ran if each.problem is not None]
            failed += len(wrong)
            for each in wrong:
                print(f"{page}:{each.block.line}: {each.problem}\n{each.printed}")
    return failed


def renewed(page: str, ran: list[Ran], figures: bool = False) -> str:
    """The page with new output where its words have changed, or with `figures` everywhere."""
    lines = page.splitlines()
    for each in reversed(ran):
        shown, place = each.block.shown, each.block.shown_at
        if shown is None or place is None or each.problem is not None:
            continue
        if not figures and without_figures(shown) == without_figures(each.printed):
            continue
        lines[slice(*place)] = [line.rstrip() for line in each.printed.strip("\n").splitlines()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(min(main([Path(word) for word in words if word != "--figures"], "--figures" in words), 1))
