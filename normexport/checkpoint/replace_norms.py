"""Walk a loaded model: record its norms, and replace foreign ones by `nn.RunningNorm`, proven by their forward."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from normexport.checkpoint.dialect import EPS, Dialect
from normexport.checkpoint.dialects import DIALECTS
from normexport.checkpoint.fake_quantisation import module_dtype, quantizer_of
from normexport.checkpoint.finite import require_finite_norm
from normexport.checkpoint.health import health, never_updated
from normexport.checkpoint.recognise import OBSERVER, Stored
from normexport.checkpoint.records import UNKNOWN, NormRecord
from normexport.checkpoint.trained_kind import trained_kind
from normexport.checkpoint.verify import Agreement, agreement_of, measured
from normexport.errors import CheckpointError
from normexport.nn import Norm, RunningNorm
from normexport.nn.uniform_quantizer import QuantizedRunningNorm
from normexport.norms import KINDS, AffineParams
from normexport.text import channels, shortened


@dataclass(frozen=True)
class Computed:
    """What the code of a norm shows, beyond its tensors.

    Attributes:
        kind: the kind that it trains; None where that was not seen.
        params: the map that it computes, where it rounds its parameters.
        quantizer: what stands for the observer of its input, where that is kept.
    """

    kind: str | None = None
    params: AffineParams | None = None
    quantizer: nn.Module | None = None


@dataclass
class Settled:
    """The model as it is being settled: `records` by module path, `used` names of the dialects met.

    `notes` are of the whole file, `remarks` of single norms: what is remarked -> the paths it holds for. `doubts` are
    the remarks on parts that may compute something else than the part of the file that they stand for. `unquantised` is
    asked for: fake quantisation is then left out, as one of the doubts. `held` are paths of numbers that no
    state_dict of the model has and the file had; `has_ranges` says that the file had ranges of fake quantisation.
    """

    model: nn.Module
    records: dict[str, NormRecord] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    remarks: dict[str, list[str]] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    unquantised: bool = False
    held: set[str] = field(default_factory=set)
    has_ranges: bool = False

    def remark(self, path: str, words: str) -> None:
        """Remark `words` on the norm at `path`; a network of fifty such norms gets one note."""
        self.remarks.setdefault(words, []).append(path or "the model")

    def doubt(self, path: str, words: str) -> None:
        """The same of a part that was replaced by one that was not shown to compute the same."""
        self.remark(path, words)
        if words not in self.doubts:
            self.doubts.append(words)

    def all_notes(self) -> tuple[str, ...]:
        """Notes, then remarks with the first few of their paths."""
        return (*self.notes, *(f"{shortened(paths)}: {words}" for words, paths in self.remarks.items()))

    def unproven(self) -> tuple[str, ...]:
        """The doubts with the first few of their paths."""
        return tuple(f"{shortened(self.remarks[words])}: {words}" for words in self.doubts)

    def replace(
        self, old: nn.Module, stored: Stored, dialect: Dialect, eps: float, computed: Computed | None = None
    ) -> None:
        """Put a RunningNorm decoded from `stored` wherever `old` is; refuse what divides by zero.

        `computed` is what the code of `old` shows, where that wrote `stored`.
        """
        computed = computed or Computed()
        params = decoded(stored, dialect, eps)
        trained = computed.kind if dialect.kind == UNKNOWN else None
        record = record_of(stored, dialect, params, trained or kind_label(dialect, old, stored))
        dtype = torch.float64 if stored.values[dialect.mean].dtype == torch.float64 else torch.float32
        new: nn.Module = RunningNorm(params, record.kind, dtype)
        if computed.quantizer is not None:
            new = QuantizedRunningNorm(computed.quantizer, computed.params or params, record.kind, dtype)
        elif any(key.startswith(f"{OBSERVER}.") for key in stored.values):
            self.doubt(stored.path, "fake quantisation of its input is left out")
        self.put(old, new.eval())
        self.records[stored.path] = record
        self.used.add(dialect.name)

    def put(self, old: nn.Module, new: nn.Module) -> None:
        """Put `new` wherever `old` is."""
        if old is self.model:
            self.model = new
        for parent in list(self.model.modules()):
            for name, child in list(parent._modules.items()):
                if child is old:
                    parent._modules[name] = new


def decoded(stored: Stored, dialect: Dialect, eps: float = EPS) -> AffineParams:
    """`dialect.decode`, refusing statistics that are NaN or that the layer would divide to Inf.

    Raises:
        CheckpointError: naming the module path and the channels.
    """
    require_finite_norm(stored)
    params = dialect.decode(stored.arrays(), eps)
    bad = np.flatnonzero(~np.isfinite(params.inv_scale)).tolist()
    if bad:
        never = never_updated(dialect, stored.arrays())
        why = "the running statistics were never updated" if never else f"{dialect.stat} is zero or negative"
        raise CheckpointError(
            stored.path or "the norm",
            f"{why} and 1/statistic is not finite in {channels(bad, params.channels)}",
            "train it, or re-estimate its running statistics",
        )
    return params


def record_of(stored: Stored, dialect: Dialect, params: AffineParams, kind: str) -> NormRecord:
    """The record of a norm with running statistics."""
    words = health(dialect, stored.arrays(), params)
    return NormRecord(stored.path, kind, dialect.name, params.channels, "running", words)


def kind_label(dialect: Dialect, module: nn.Module | None, stored: Stored) -> str:
    """Which statistic was trained: from the dialect, the metadata, the module's p or k; its class name last.

    Only a label: where it can't be told (L1, Lp and Top-k share layouts) it is "unknown".
    """
    if dialect.kind != UNKNOWN:
        return dialect.kind
    if stored.kind in KINDS:
        return str(stored.kind)
    if isinstance(module, (Norm, RunningNorm)):
        return module.kind
    p, k = getattr(module, "p", None), getattr(module, "k", None)
    if isinstance(k, int):
        return "linf" if k == 1 else "topk"
    if isinstance(p, (int, float)):
        return next((kind.name for kind in KINDS.values() if kind.order == p), UNKNOWN)
    return kind_in_name(type(module).__name__)


def kind_in_name(name: str) -> str:
    """The kind that the name of a class speaks of, which is only a hint."""
    return next((kind.name for kind in KINDS.values() if kind.hint and kind.hint in name.lower()), UNKNOWN)


def replace_norms(settled: Settled, named: Dialect | None) -> None:
    """Record every norm of `settled.model`, in order, and replace the foreign ones.

    Raises:
        CheckpointError: NaN statistics; a foreign norm whose forward contradicts its layout; an ambiguous one.
    """
    earlier = settled.records
    settled.records = {}
    for path, module in list(settled.model.named_modules()):
        if path in earlier:
            settled.records[path] = earlier[path]
        elif isinstance(module, Norm):
            _own_norm(settled, path, module)
        elif isinstance(module, RunningNorm):
            _record_native(settled, path, module, "normexport-running", EPS)
        elif isinstance(module, _BatchNorm) and inherits_forward(module):
            _batch_norm(settled, path, module)
        elif not isinstance(module, _InstanceNorm):
            _foreign(settled, path, module, named)


def inherits_forward(module: nn.Module) -> bool:
    """Whether a subclass of torch's BatchNorm computes just that."""
    return type(module).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)


def has_hooks(module: nn.Module) -> bool:
    """Whether code of others runs beside a module's own forward."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module owns nothing but tensors and an observer, as a norm does."""
    return not set(module._modules) - {OBSERVER}


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's own parameters and buffers, and those of its quantisation observer."""
    own = {**module._parameters, **module._buffers}
    observer = module._modules.get(OBSERVER)
    if observer is not None:
        own |= {f"{OBSERVER}.{name}": value for name, value in observer._buffers.items()}
    return {name: value for name, value in own.items() if value is not None}


def _own_norm(settled: Settled, path: str, module: Norm) -> None:
    if module.running_mean is not None:
        _record_native(settled, path, module, "normexport", module.eps)
        return
    settled.records[path] = NormRecord(path, module.kind, "normexport", module.num_features, module.scope.value)


def _batch_norm(settled: Settled, path: str, module: _BatchNorm) -> None:
    if module.running_mean is not None:
        _record_native(settled, path, module, "batchnorm", module.eps)
        return
    settled.records[path] = NormRecord(path, "batchnorm", "batchnorm", module.num_features, "batch")


def _record_native(settled: Settled, path: str, module: nn.Module, name: str, eps: float) -> None:
    """A norm that is exported as it is."""
    stored, dialect = Stored(path, own_tensors(module)), DIALECTS[name]
    params = decoded(stored, dialect, eps)
    settled.records[path] = record_of(stored, dialect, params, kind_label(dialect, module, stored))
    settled.used.add(name)


def _foreign(settled: Settled, path: str, module: nn.Module, named: Dialect | None) -> None:
    # A class of somebody else's: the version of any module shows that it is not one that lost its notes.
    stored = Stored(path, own_tensors(module), {"version": module._version})
    options = _options(stored) if is_leaf(module) else ()
    if not options:
        if stored.looks_like_a_norm():
            settled.remark(stored.path, "running statistics of no known dialect; its own forward is exported")
        return
    if has_hooks(module):
        settled.remark(stored.path, "has hooks; its own forward is exported with them")
        return
    if named is not None and named in options:
        options = (named,)
    require_finite_norm(stored)
    eps = float(getattr(module, "eps", EPS))
    agreements = {each.name: _agreement(module, stored, each, eps) for each in options}
    fitting = [each for each in options if agreements[each.name].agrees in ("exactly", "rounded")]
    exactly = [each for each in fitting if agreements[each.name].agrees == "exactly"]
    if not fitting:
        _none_fits(settled, module, stored, options, agreements, named)
        return
    trained = trained_kind(module, fitting[0].stat)
    chosen = likeliest(exactly or fitting, type(module).__name__, trained)
    observer = module._modules.get(OBSERVER)
    quantizer = None if observer is None or settled.unquantised else quantizer_of(observer, module_dtype(module))
    params = None if quantizer is None or exactly else measured(module, stored.arrays()[chosen.mean])
    kept = quantizer is not None and (params is not None or bool(exactly))
    settled.replace(module, stored, chosen, eps, Computed(trained, params, quantizer if kept else None))
    if kept:
        if not agreements[chosen.name].steady:
            settled.remark(path, "its forward rounds at random; it is taken without its noise")
        return
    if not agreements[chosen.name].steady:
        settled.doubt(path, "its forward rounds at random; its parameters are exported unrounded, which is the mean")
    elif agreements[chosen.name].agrees == "rounded":
        settled.doubt(path, "its forward rounds its parameters; they are exported unrounded")


def _agreement(module: nn.Module, stored: Stored, dialect: Dialect, eps: float) -> Agreement:
    params = dialect.decode(stored.arrays(), eps)
    if not np.isfinite(params.inv_scale).all():
        return Agreement("no", float("inf"))
    rounds = dialect.quantised and OBSERVER in module._modules
    return agreement_of(module, params, rounds)


def _options(stored: Stored) -> tuple[Dialect, ...]:
    """What the tensors of a module can mean whose code is at hand, and decides: an own class can inherit BatchNorm."""
    likely = stored.readings()
    return (*likely, *(each for each in stored.fitting() if each.inherits and each not in likely))


def likeliest(dialects: list[Dialect], class_name: str, trained: str | None) -> Dialect:
    """Of dialects with the same arithmetic here, the one whose kind was trained, or else the class name speaks of."""
    said = class_name.lower()
    by_kind = [each for each in dialects if each.kind == trained or (trained is None and each.kind in said)]
    return next(iter([*by_kind, *(each for each in dialects if each.kind == UNKNOWN), *dialects]))


def computes(part: nn.Module, stored: Stored, dialect: Dialect, eps: float) -> bool:
    """Whether code that has these tensors computes this reading of them."""
    return _agreement(part, stored, dialect, eps).agrees == "exactly"


def _none_fits(
    settled: Settled,
    module: nn.Module,
    stored: Stored,
    options: tuple[Dialect, ...],
    agreements: dict[str, Agreement],
    named: Dialect | None,
) -> None:
    """No reading agrees with the module's forward: keep that forward, which is right, or refuse a wrong --dialect."""
    only = options[0]
    if named is only and agreements[only.name].agrees == "unknown":
        settled.replace(module, stored, only, float(getattr(module, "eps", EPS)))
        settled.doubt(stored.path, f"read as {only.name}; its own forward could not be run to confirm it")
        return
    if any(each.agrees == "unknown" for each in agreements.values()):
        settled.remark(stored.path, "its forward could not be run alone to confirm a dialect; it is exported")
        return
    if len(options) == 1:
        decoded(stored, only, float(getattr(module, "eps", EPS)))  # a division by zero has its own words
    if named is not only:
        settled.remark(stored.path, "computes more than a norm of its keys; its own forward is exported")
        return
    raise CheckpointError(
        stored.path or "the norm",
        f"has the keys of {only.name} but its forward computes something else "
        f"(relative error {agreements[only.name].error:.1e})",
        "leave --dialect out, so that its own forward decides",
    )
