"""Print which floors of the library import which, and count what runs upward or in a circle.

    python tools/import_graph.py

Exit code 0: no import runs upward or in a circle. `tests/test_layout.py` holds the same in every run.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "normexport"


def read_floors() -> list[str]:
    """The floors of the library, from the roof to the ground, as the picture in ARCHITECTURE.md draws them."""
    picture = (ROOT / "ARCHITECTURE.md").read_text().partition("```text\nnormexport/\n")[2].partition("```")[0]
    return [line.split()[0] for line in picture.splitlines()]


def find_modules() -> dict[str, Path]:
    """Every module of the library by its dotted name; a package goes by its `__init__`."""
    names = {file: file.relative_to(ROOT).with_suffix("").parts for file in LIBRARY.rglob("*.py")}
    return {".".join(name[:-1] if name[-1] == "__init__" else name): file for file, name in names.items()}


def read_imports(file: Path, known: Collection[str]) -> set[str]:
    """The library's modules that a file imports, anywhere in it.

    Raises:
        ValueError: it has a relative import.
    """
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{file}: relative import")
            home = node.module or ""
            found |= {full if (full := f"{home}.{alias.name}") in known else home for alias in node.names}
    return found & set(known)


def read_graph() -> dict[str, set[str]]:
    """What each module imports."""
    modules = find_modules()
    return {name: read_imports(file, modules) - {name} for name, file in modules.items()}


def upward_imports(graph: Mapping[str, Collection[str]], floors: list[str]) -> Iterator[tuple[str, str]]:
    """Imports of a floor above one's own, or of the package's roof."""
    for module, imported in graph.items():
        if module in ("normexport", "normexport.__main__"):  # the roof, and another name of the command line
            continue
        own = floors.index(module.split(".")[1])
        for name in imported:
            if name == "normexport" or floors.index(name.split(".")[1]) < own:
                yield module, name


def find_circle(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Modules that import one another in a circle; empty where there is none."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def main() -> int:
    """Print the graph by floor; 1 where something runs upward or in a circle."""
    graph, floors = read_graph(), read_floors()
    for floor in floors:
        own = [name for name in graph if name.split(".")[1:2] == [floor]]
        counts = Counter(each.split(".")[1] for name in own for each in graph[name] if each != "normexport")
        below = ", ".join(f"{each} {counts[each]}" for each in floors if each != floor and counts[each])
        print(f"{floor:<12} {len(own):>3} modules  -> {below or 'nothing'}")
    up, circle = list(upward_imports(graph, floors)), find_circle(graph)
    for module, name in up:
        print(f"upward: {module} imports {name}")
    if circle:
        print("circle:", " -> ".join(circle))
    print(f"{len(graph)} modules, {len(up)} upward imports, {'a circle' if circle else '0 circles'}")
    return 1 if up or circle else 0


if __name__ == "__main__":
    sys.exit(main())
