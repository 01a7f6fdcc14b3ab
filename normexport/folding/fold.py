"""Folds every norm of a model into its neighbours, or lowers it, or says why not.

Runs of per-channel maps are read one at a time, in graph order. Each is offered first to what produces its input
(`upward`), then to what reads its output (`downward`), and else written in its cheapest form (`lower`). A run in which
there is no norm (a bias, a scalar) goes into the layer right beside it, or takes its cheapest form. A round that
changed something is followed by another, until nothing changes: folding is idempotent. The graphs within the graph come
first (`bodies`). Norms inside functions are left alone, and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import onnx_ir as ir

from normexport.errors import FoldError
from normexport.folding import bodies, inner_graphs, layout, standalone, unrolled, weight_norm
from normexport.folding.edits import Overflow, Rewrite
from normexport.folding.graph import Draft
from normexport.folding.layer_norm import check_apart
from normexport.folding.moments import moments_of_norms
from normexport.folding.operators import check_operators
from normexport.folding.outcomes import Log
from normexport.folding.result import Fate, FoldConfig, FoldResult, NormOutcome
from normexport.folding.runs import OriginalNorm, Site, kind_of, read_site
from normexport.folding.toward_input import absorb, takes_in
from normexport.folding.toward_output import all_take_in, check_not_dequantised, push
from normexport.graphs.moments import carry_moments
from normexport.graphs.node_metadata import module_path
from normexport.graphs.nodes import name_of, op
from normexport.graphs.refusal import Refuse
from normexport.logs import logger
from normexport.norms.bodies import drop_unused_functions
from normexport.norms.own_bodies import require_own_bodies
from normexport.text import bracketed, first_line, innermost, one_line

_LOG = logger(__name__)


def fold(model: ir.Model, config: FoldConfig | None = None) -> FoldResult:
    """Fold the norms of `model`, which is not changed.

    Arithmetic is float64, rounded once to the type of the tensor that takes a norm in. A value's name always means
    the same tensor: what took a norm in carries the name of the norm's output, and names of values that no longer
    exist are gone. What the norms know of these tensors, the model's metadata keeps (`graphs.moments`).

    Raises:
        FoldError: the model's graph is not valid ONNX, or an operator of ours has a body that is not its own.
    """
    try:
        copy = model.clone()
    except (RuntimeError, ValueError) as error:
        raise FoldError(model.graph.name or "model", f"is not a valid graph: {first_line(innermost(error))}") from error
    check_operators(copy.graph)
    require_own_bodies(copy)
    if model.ir_version < 4:
        _drop_default_inputs(copy.graph)
    draft = Draft(model, copy, config or FoldConfig())
    folding, known = _Folding(draft, Log()), moments_of_norms(copy.graph, draft.constants)
    with np.errstate(all="ignore"):
        changed = folding.run()
    inner_graphs.tell(copy, folding.log, folding.folded)
    _tell(folding.log.outcomes())
    if not changed:
        return FoldResult(model, folding.log.outcomes(), folding.log.warnings(), False)
    drop_unused_functions(copy)
    carry_moments(copy, known)
    copy.ir_version = max(copy.ir_version, 4)
    return FoldResult(copy, folding.log.outcomes(), folding.log.warnings(), True)


def _tell(outcomes: Sequence[NormOutcome]) -> None:
    for norm in outcomes:
        _LOG.debug("%r: %s%s", norm.path or norm.node, norm.fate, f", {one_line(norm.reason)}" if norm.reason else "")
    fates = [norm.fate for norm in outcomes]
    _LOG.info("norms: %s", ", ".join(f"{fates.count(fate)} {fate}" for fate in get_args(Fate)))


def _drop_default_inputs(graph: ir.Graph) -> None:
    """Let initializers be constants, as they are from IR 4 on.

    Before, each had to be listed as a graph input too. ONNX Runtime takes no other value for these: it lists them
    neither as inputs nor as overridable.
    """
    constant = {value for value in graph.initializers.values() if value.const_value is not None}
    graph.inputs[:] = [value for value in graph.inputs if value not in constant]


class _Folding:
    """The rounds of one fold over its working copy."""

    def __init__(self, draft: Draft, log: Log) -> None:
        self.draft = draft
        self.log = log
        self.folded = {draft.graph}  # and the graphs within it that were folded
        self.owners: dict[ir.Node, tuple[OriginalNorm, ...]] = {}

    def run(self) -> bool:
        """All rounds; whether anything changed."""
        changed = self._fold_bodies()
        if weight_norm.resolve(self.draft, self.log):
            changed = True
            self.draft.infer_shapes_again()
        changed |= unrolled.resolve(self.draft)
        while self._round():
            changed = True
            layout.cancel_pairs(self.draft)
        return changed

    def _fold_bodies(self) -> bool:
        changed = False
        for body in list(bodies.inner_graphs(self.draft.graph)):
            with bodies.standing_alone(body, self.draft) as draft:
                if draft is not None:
                    inner = _Folding(draft, self.log)
                    changed |= inner.run()
                    self.folded |= inner.folded
        return changed

    def _round(self) -> bool:
        changed, seen = False, set[ir.Node]()
        for node in list(self.draft.graph):
            if node in seen or node.graph is not self.draft.graph:
                continue
            try:
                site = read_site(node, self.draft, self.owners)
            except Refuse as refusal:
                self._leave(node, refusal)
                continue
            if site is not None:
                seen.update(site.nodes)
                changed |= self._fold_site(site) if site.norms else self._fold_steps(site)
        return changed

    def _leave(self, node: ir.Node, refusal: Refuse) -> None:
        if node not in self.owners:
            self.owners[node] = (OriginalNorm(name_of(node), module_path(node), kind_of(node)),)
        self.log.decide(self.owners[node][0], "live", "", refusal.reason)

    def _fold_site(self, site: Site) -> bool:
        """Find the best place for one run; whether the graph changed."""
        for norm, map in site.norms:
            self.log.warn_of_map(norm, map)
        self.owners.update(dict.fromkeys(site.nodes, tuple(norm for norm, _ in site.norms)))
        broken = site.map.broken()
        if broken:
            self._decide(site, "live", "", f"scale or shift is not a finite number in channels {bracketed(broken)}")
            return False
        reasons = []
        if site.works:
            for attempt in (self._fold_upward, self._fold_downward):
                try:
                    attempt(site)
                    return True
                except Refuse as refusal:
                    self._warn_overflow(site, refusal)
                    reasons.append(refusal.reason)
        return self._lower(site, "; ".join(dict.fromkeys(reasons)))

    def _fold_steps(self, site: Site) -> bool:
        """Let the layer right beside a run take it in, where no norm is in it, or shorten it; whether it changed."""
        if not site.works or site.map.broken():
            return False
        attempts = [self._fold_upward] if takes_in(site.input) else []
        attempts += [self._fold_downward] if all_take_in(site.output) else []
        for attempt in attempts:
            try:
                attempt(site)
                return True
            except Refuse:
                continue
        if standalone.is_lowest(site, self.draft):
            return False
        try:
            standalone.check_fits(site, self.draft)
        except Refuse:
            return False
        standalone.lower(site, self.draft)
        return True

    def _fold_upward(self, site: Site) -> None:
        rewrite = absorb(site.input, site.map, self.draft)
        self._check_worth(site, rewrite)
        nodes = self._apply(site, rewrite)
        site.let_go(self.draft)
        self.draft.hand_over(site.output, site.input, site.nodes)
        self._decide(site, "folded", rewrite.rule, rewrite.reason, nodes)

    def _fold_downward(self, site: Site) -> None:
        check_apart(site.input, site.map, self.draft)
        check_not_dequantised(site.input)
        rewrite = push(site.output, site.map, self.draft)
        self._check_worth(site, rewrite)
        nodes = self._apply(site, rewrite)
        site.let_go(self.draft)
        site.output.replace_all_uses_with(site.input)
        self.draft.remove(site.nodes)
        self._decide(site, "folded", rewrite.rule, rewrite.reason, nodes)

    def _check_worth(self, site: Site, rewrite: Rewrite) -> None:
        if not site.norms:
            stays = sum(link.map.scales or link.map.shifts for link in site.links)
        elif standalone.is_lowest(site, self.draft):
            stays = len(site.links)
        else:
            stays = len(standalone.lowest(site, self.draft))
        simpler = rewrite.added == stays == 1 and any(link.kind != "chain" for link in site.links)
        if rewrite.added >= stays and not simpler:
            raise Refuse(f"folding would add {rewrite.added} nodes where {stays} can stay")

    def _apply(self, site: Site, rewrite: Rewrite) -> list[ir.Node]:
        nodes = dict.fromkeys(node for edit in rewrite.edits for node in edit.apply(self.draft))
        if site.norms:  # a scalar that took a norm in stands for it now
            for node in nodes:
                if op(node) in ("Mul", "Sub"):
                    self.owners.setdefault(node, tuple(norm for norm, _ in site.norms))
        for norm, _ in site.norms:
            for node in nodes:
                self.draft.mark(node, norm.title)
            for hazard in rewrite.hazards:
                self.log.warn("overflow_later", norm, hazard.message, hazard.channels)
        return list(nodes)

    def _lower(self, site: Site, why: str) -> bool:
        draft = self.draft
        if standalone.is_lowest(site, draft):
            names = " and ".join(node.op_type for node in site.nodes)
            for norm in self._undecided_norms(site):  # an earlier round may have lowered it to what it is now
                self.log.decide(norm, "lowered", standalone.RULE, f"{why}; stays as it is ({names})".removeprefix("; "))
            return False
        try:
            standalone.check_fits(site, draft)
        except Refuse as refusal:
            self._warn_overflow(site, refusal)
            self._decide(site, "live", "", f"{why}; {refusal.reason}".removeprefix("; "))
            return False
        why = why or f"it changes nothing, but '{site.input.name}' and '{site.output.name}' both have names to keep"
        nodes = standalone.lower(site, draft)
        if not nodes:
            self._decide(site, "folded", standalone.RULE, "it changes nothing (scale 1, shift 0): dropped")
            return True
        self.owners.update(dict.fromkeys(nodes, tuple(norm for norm, _ in site.norms)))
        names = " and ".join(node.op_type for node in nodes)
        self._decide(site, "lowered", standalone.RULE, f"{why}; lowered to {names}", nodes)
        return True

    def _decide(self, site: Site, fate: Fate, rule: str, reason: str, nodes: Sequence[ir.Node] = ()) -> None:
        for norm, _ in site.norms:
            self.log.decide(norm, fate, rule, reason, tuple(name_of(node) for node in nodes))

    def _undecided_norms(self, site: Site) -> list[OriginalNorm]:
        return [norm for norm, _ in site.norms if norm not in self.log]

    def _warn_overflow(self, site: Site, refusal: Refuse) -> None:
        if isinstance(refusal, Overflow):
            for norm, _ in site.norms:
                self.log.warn("overflow", norm, refusal.hazard.message, refusal.hazard.channels)
