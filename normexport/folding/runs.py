"""Where norms stand: maximal runs of per-channel maps in line, which fold as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import groupby

import onnx_ir as ir

from normexport.folding.graph import Draft
from normexport.folding.per_channel import PerChannel
from normexport.folding.readers import Link, read_batchnorm, read_chain, read_running
from normexport.graphs.node_metadata import module_path
from normexport.graphs.nodes import label, name_of, op, readers
from normexport.graphs.refusal import Refuse
from normexport.norms import DOMAIN, Scope, live_ops

RUNNING = f"{DOMAIN}::RunningNorm"


@dataclass(frozen=True, eq=False)
class OriginalNorm:
    """One norm as its author wrote it: the thing that an outcome is about. `node` and `path` as in NormOutcome."""

    node: str
    path: str
    kind: str

    @property
    def title(self) -> str:
        """How the norm is recorded on the node that takes it in."""
        return self.path or self.node


# Norms by the nodes that stand for them; a lowered norm's Mul and Add still stand for it in a later round.
Owners = Mapping[ir.Node, tuple[OriginalNorm, ...]]


@dataclass(frozen=True, eq=False)
class Site:
    """Links in line, each the only reader of the one before, and the norms they stand for with their own maps."""

    links: tuple[Link, ...]
    norms: tuple[tuple[OriginalNorm, PerChannel], ...]

    @cached_property
    def map(self) -> PerChannel:
        """What the whole run does, from `input` to `output`."""
        return reduce(PerChannel.then, (link.map for link in self.links))

    @property
    def works(self) -> bool:
        """Whether the run changes anything."""
        return self.map.scales or self.map.shifts

    def let_go(self, draft: Draft) -> None:
        """Before its nodes go: who asks for the shape of a value within the run gets that of its input, the same."""
        for link in self.links[:-1]:
            draft.ask_shape_of(link.output, self.input)

    @property
    def input(self) -> ir.Value:
        """The value before the first link."""
        return self.links[0].input

    @property
    def output(self) -> ir.Value:
        """The value behind the last link."""
        return self.links[-1].output

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        """The nodes of the links, in order."""
        return tuple(link.node for link in self.links)

    def has(self, operator: str) -> bool:
        """Whether a link is this operator."""
        return any(op(node) == operator for node in self.nodes)


def read_link(node: ir.Node, draft: Draft) -> Link | None:
    """The node as a map, None where it is no norm and no step of one.

    Raises:
        Refuse: it is a norm, but its map is not known at this time (live or unreadable).
    """
    if node.outputs and node.outputs[0] in draft.constants:
        return None
    if op(node) == RUNNING:
        return read_running(node, draft)
    if op(node) == "BatchNormalization":
        return read_batchnorm(node, draft)
    if node.domain == DOMAIN and node.op_type in live_ops():
        owner = Scope.of_op(node.op_type).owner
        raise Refuse(f"{label(node)} computes the statistics of {owner} at inference")
    return read_chain(node, draft)


def kind_of(node: ir.Node) -> str:
    """Kind of a norm whose map can't be read."""
    if op(node) == RUNNING:
        return node.attributes.get_string("kind", "") or "running"
    if node.domain == DOMAIN and node.op_type in live_ops():
        return live_ops()[node.op_type].name
    return "batchnorm" if op(node) == "BatchNormalization" else "chain"


def read_site(start: ir.Node, draft: Draft, owners: Owners) -> Site | None:
    """The run that begins at `start`, None where that is not a link. A run without norms has an empty `norms`.

    Raises:
        Refuse: `start` is a norm whose map can't be read.
    """
    first = read_link(start, draft)
    if first is None:
        return None
    links = [first]
    while (following := _next(links[-1], draft)) is not None and _share_channels([*links, following]):
        links.append(following)
    return Site(tuple(links), tuple(_norms(links, owners)))


def _next(link: Link, draft: Draft) -> Link | None:
    uses = readers(link.output)
    if len(uses) != 1 or link.output.is_graph_output() or uses[0].node.graph is not draft.graph:
        return None
    try:
        following = read_link(uses[0].node, draft)
    except Refuse:
        return None  # reported when the walk comes to that node itself
    if following is None or following.data != uses[0].idx:
        return None
    # A norm that is not a number stays alone, so that its neighbours still fold.
    return None if any(each.kind != "chain" and each.map.broken() for each in (link, following)) else following


def _share_channels(links: list[Link]) -> bool:
    """Whether all links with several channels have them on one axis."""
    return len({(link.map.channels, link.map.axis) for link in links if link.map.channels > 1}) < 2


def _norms(links: list[Link], owners: Owners) -> list[tuple[OriginalNorm, PerChannel]]:
    found = []
    for part in _parts(links):
        whole = reduce(PerChannel.then, (link.map for link in part))
        owned = dict.fromkeys(norm for link in part for norm in owners.get(link.node, ()))
        found += [(norm, whole) for norm in owned]
        unowned = [link for link in part if link.node not in owners]
        if any(link.counts for link in unowned):
            node = unowned[0].node
            found.append((OriginalNorm(name_of(node), module_path(node), part[0].kind), whole))
    return found


def _parts(links: list[Link]) -> list[list[Link]]:
    """Raw steps in line make one norm; every other link is one by itself."""
    parts = []
    for is_chain, group in groupby(links, key=lambda link: link.kind == "chain"):
        run = list(group)
        parts += [run] if is_chain else [[link] for link in run]
    return parts
