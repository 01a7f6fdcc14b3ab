"""A network as rows of a tree: modules, what they compute in order of execution, and the norms that went into it.

A row is an operator, a module that holds rows, a norm that is no operator any more, or an input or output of the
network. What only carries numbers, constants and the pairs that quantise, is no row: an arrow goes past it, and what
reads integers says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from normexport.graphs.node_metadata import CLASSES, FOLDED, SCOPES, module_path, words
from normexport.graphs.nodes import name_of
from normexport.reports.norm_rows import Row as NormRow

#: A network of more operators is drawn by its modules alone, which keeps the page below 5 MB.
MOST = 20_000
_DEEPEST = 12  # levels of modules; the rest of a longer path is one name
_MANY = 250  # rows side by side; more stand in groups
_GROUP = 100
_CARRIERS = ("QuantizeLinear", "DequantizeLinear", "Constant", "Identity")
_FORWARD = "consumer"  # the rule that folds a norm into what comes behind it
_INTEGERS = ("QuantizeLinear", "DequantizeLinear")

Path = tuple[str, ...]


@dataclass
class Item:
    """A row; made while the graph is walked, and not changed afterwards.

    `kind` is "module", "operator", "norm", "input" or "output"; `parent` and `sources`, what it reads, are positions
    in the list of all; `facts` are (term, value); `order` is where it stands among those side by side; `out` says
    that it is out of its budget.
    """

    name: str
    kind: str
    type: str = ""
    parent: int = -1
    sources: list[int] = field(default_factory=list)
    fate: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    order: float = 0.0
    out: bool = False


@dataclass(frozen=True)
class Network:
    """All rows, in the order in which they stand; `cut` says what is not shown, "" where all is."""

    items: tuple[Item, ...]
    cut: str = ""


#: What else is known of the module or norm at a path.
Facts = Callable[[str], Sequence[tuple[str, str]]]


def read_network(
    model: ir.Model,
    norms: Sequence[NormRow] = (),
    facts: Facts = lambda path: (),
    out: Collection[str] = (),
    outputs_out: Collection[str] = (),
) -> Network:
    """The rows of a model.

    Args:
        norms: what became of each norm; the paths are those of modules, or names of nodes.
        facts: what is known of a path beside.
        out: paths that are out of their budgets.
        outputs_out: names of outputs that are.
    """
    walk = _Walk(model, {row.path: row for row in norms})
    walked = walk.items()
    for index, path in walk.paths.items():
        walked[index].facts += [pair for pair in facts(path) if pair not in walked[index].facts]
        walked[index].out = path in out
    for item in walked:
        item.out = item.out or (item.kind == "output" and item.name in outputs_out)
    items = _grouped(walked)
    operators = sum(item.kind == "operator" for item in items)
    if operators <= MOST:
        return Network(tuple(items))
    kept = _kept(items, lambda item: item.kind != "operator" or bool(item.fate))
    return Network(tuple(kept[:MOST]), f"{operators} operators are too many to draw: modules and norms are shown")


class _Walk:
    """One way through the graph, which is in order of execution."""

    def __init__(self, model: ir.Model, norms: Mapping[str, NormRow]) -> None:
        self._graph, self._norms = model.graph, norms
        self.all: list[Item] = []
        self.paths: dict[int, str] = {}
        self._modules: dict[Path, int] = {}
        self._made_by: dict[int, list[int]] = {}  # id of a value -> rows
        self._placed: set[str] = set()
        self._node_rows: dict[str, int] = {}
        self._holders = Counter(norm for node in self._graph for norm in _held(node))

    def items(self) -> list[Item]:
        """All rows, those of a module behind it."""
        for value in self._graph.inputs:
            self._made_by[id(value)] = [self._add(Item(value.name or "", "input", _type_words(value)))]
        for node in self._graph:
            self._look(node)
        for name, row in self._node_rows.items():
            if _split(name) not in self._modules:  # a file without modules is spoken of by its nodes
                self.paths[row] = name
        for norm in self._norms.values():
            self._place_norm(norm)
        for value in self._graph.outputs:
            sources = self._made_by.get(id(value), [])
            self._add(Item(value.name or "", "output", _type_words(value), sources=list(sources)))
        return self.all

    def _add(self, item: Item) -> int:
        item.order = len(self.all)
        self.all.append(item)
        return len(self.all) - 1

    def _look(self, node: ir.Node) -> None:
        sources = list(dict.fromkeys(row for value in _read(node) for row in self._made_by.get(id(value), ())))
        if node.op_type in _CARRIERS and not node.domain.startswith("normexport"):
            for value in node.outputs:
                self._made_by[id(value)] = sources
            return
        path = _path_of(node)
        row = self._add(Item(node.name or node.op_type, "operator", node.op_type, self._module(path, node), sources))
        item = self.all[row]
        item.facts.append(("operator", node.op_type if not node.domain else f"{node.domain}::{node.op_type}"))
        if _on_integers(node):
            item.facts.append(("computes on", "int8"))
            item.type += " int8"
        item.facts += [("gives", f"{value.name} {_type_words(value)}") for value in node.outputs if value.name]
        for value in node.outputs:
            self._made_by[id(value)] = [row]
        self._node_rows[name_of(node)] = row
        for norm in _held(node):
            if (known := self._norms.get(norm)) is not None:
                self._place_norm(known, holder=row)
                item.facts.append(("holds the norm", norm))

    def _module(self, path: Path, node: ir.Node | None = None) -> int:
        """The row of a module, made with those above it where they are new; -1 of none."""
        if not path:
            return -1
        if path not in self._modules:
            parent = self._module(path[:-1], node)
            self._modules[path] = row = self._add(Item(path[-1], "module", parent=parent))
            self.paths[row] = ".".join(path)
        if node is not None and not self.all[self._modules[path]].type:
            self.all[self._modules[path]].type = _class_at(node, ".".join(path))
        return self._modules[path]

    def _place_norm(self, row: NormRow, holder: int | None = None) -> None:
        """Show what became of a norm: at its module or node where that is there, else as a row of its own."""
        if row.path in self._placed:
            return
        self._placed.add(row.path)
        path = _split(row.path)
        found = self._modules.get(path, self._node_rows.get(row.path))
        if found is None:
            parent = self._module(path[:-1]) if len(path) > 1 else -1
            found = self._add(Item(path[-1] if path else row.path, "norm", "", parent, self._standing_for(holder)))
            # What reads the holder's output reads it behind its norm; one of several holders is no place for it.
            if holder is not None and self._holders[row.path] == 1:
                if row.rule == _FORWARD:
                    self._put_before(found, holder)
                else:
                    self._pass_on(holder, found)
        item = self.all[found]
        item.fate = row.fate or "kept"
        item.type = f"{row.kind} norm" if item.kind == "norm" else item.type
        item.facts += [("norm", row.kind), ("channels", row.channels), (row.fate or "kept", row.why)]
        self.paths[found] = row.path

    def _standing_for(self, holder: int | None) -> list[int]:
        """What a norm behind its holder reads: the holder, or the last norm that went into it before."""
        if holder is None:
            return []
        behind = [index for index, item in enumerate(self.all) if item.kind == "norm" and item.sources == [holder]]
        return self._standing_for(behind[0]) if behind else [holder]

    def _pass_on(self, holder: int, norm: int) -> None:
        replaced = {holder, *self.all[norm].sources}
        for made in self._made_by.values():
            made[:] = [norm if row in replaced else row for row in made]

    def _put_before(self, norm: int, holder: int) -> None:
        """A norm that was folded forward stands before what holds it, and is read by it."""
        self.all[norm].sources, self.all[holder].sources = self.all[holder].sources, [norm]
        beside = holder
        while beside >= 0 and self.all[beside].parent != self.all[norm].parent:
            beside = self.all[beside].parent
        if beside >= 0:
            self.all[norm].order = self.all[beside].order - 0.5


def _held(node: ir.Node) -> list[str]:
    """The norms that a node took in."""
    return [norm for norm in node.metadata_props.get(FOLDED, "").split(",") if norm]


def _read(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, graphs inside it included."""
    for value in node.inputs:
        if value is not None:
            yield value
    for attribute in node.attributes.values():
        for graph in _graphs(attribute):
            for inner in graph:
                yield from _read(inner)


def _graphs(attribute: ir.Attr) -> Sequence[ir.Graph]:
    if attribute.type is ir.AttributeType.GRAPH:
        return [attribute.as_graph()]
    return attribute.as_graphs() if attribute.type is ir.AttributeType.GRAPHS else ()


def _on_integers(node: ir.Node) -> bool:
    makers = [value.producer() for value in node.inputs[:2] if value is not None]
    return bool(makers) and all(maker is not None and maker.op_type in _INTEGERS for maker in makers)


def _split(path: str) -> Path:
    parts = [part for part in path.split(".") if part]
    return tuple(parts) if len(parts) <= _DEEPEST else (*parts[: _DEEPEST - 1], ".".join(parts[_DEEPEST - 1 :]))


def _path_of(node: ir.Node) -> Path:
    """The module that made a node: what the exporter says, else the folders of a name like /layer1/conv/Conv."""
    if path := module_path(node):
        return _split(path)
    parts = [part for part in (node.name or "").split("/") if part]
    return tuple(parts[:-1][:_DEEPEST]) if (node.name or "").startswith("/") else ()


def _class_at(node: ir.Node, path: str) -> str:
    """The class of a module on the way to a node, without its package."""
    scopes, classes = (words(node.metadata_props, key) for key in (SCOPES, CLASSES))
    found = dict(zip(scopes, classes, strict=False)).get(path, "")
    return found.rpartition(".")[2]


def _type_words(value: ir.Value) -> str:
    """ "Nx3x224x224 float"."""
    shape = "" if value.shape is None else "x".join(str(size) for size in value.shape) or "scalar"
    return " ".join(word for word in (shape, "" if value.dtype is None else value.dtype.name.lower()) if word)


def _grouped(items: list[Item]) -> list[Item]:
    """In the order of a tree, each row behind its parent; where very many stand side by side, in groups."""
    children: dict[int, list[int]] = {}
    for index in sorted(range(len(items)), key=lambda index: items[index].order):
        children.setdefault(items[index].parent, []).append(index)
    _join_single(items, children)
    for parent, inner in list(children.items()):
        if len(inner) <= _MANY:
            continue
        groups = []
        for start in range(0, len(inner), _GROUP):
            part = inner[start : start + _GROUP]
            items.append(Item(f"rows {start + 1} to {start + len(part)}", "module", parent=parent))
            groups.append(len(items) - 1)
            children[groups[-1]] = part
            for index in part:
                items[index].parent = groups[-1]
        children[parent] = groups
    order: list[int] = []
    pending = children.get(-1, [])[::-1]
    while pending:
        index = pending.pop()
        order.append(index)
        pending += children.get(index, [])[::-1]
    return _renumbered(items, order)


def _join_single(items: Sequence[Item], children: dict[int, list[int]]) -> None:
    """A module of one operator becomes that operator's row."""
    for parent, inner in list(children.items()):
        if parent < 0 or len(inner) != 1 or items[inner[0]].kind != "operator":
            continue
        module, operator = items[parent], items[inner[0]]
        facts = [("class", module.type)] if module.type else []
        operator.facts = [*facts, *operator.facts, ("node", operator.name), *module.facts]
        operator.name, operator.fate, operator.parent = module.name, module.fate, module.parent
        operator.out = module.out
        beside = children[module.parent]
        beside[beside.index(parent)] = inner[0]
        del children[parent]


def _renumbered(items: Sequence[Item], order: Sequence[int]) -> list[Item]:
    place = {index: position for position, index in enumerate(order)}
    for index in order:
        item = items[index]
        item.parent = place.get(item.parent, -1)
        item.sources = [place[source] for source in item.sources if source in place]
    return [items[index] for index in order]


def _kept(items: Sequence[Item], wanted: Callable[[Item], bool]) -> list[Item]:
    return _renumbered(items, [index for index, item in enumerate(items) if wanted(item)])
