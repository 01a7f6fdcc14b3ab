"""What is trained: one recipe per checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

#: program: exported program, `.pt2`. module: pickled module, `.pt`. training: the dict a training script keeps
#: (epoch, model, config, state_dict with the prefix of nn.DataParallel, best_prec1), `.pt`.
Format = Literal["program", "module", "training"]


@dataclass(frozen=True)
class Recipe:
    """How one checkpoint is made.

    Attributes:
        network: name in `networks.NETWORKS`.
        kind: of its norms, the argument of the factory.
        format: of the file.
        layout: None, or the foreign layout (`layouts.LAYOUTS`) into which the trained norms are converted.
        dialect: what must be named to load the file, where its keys have several readings.
        kwargs: further arguments of the factory.
        seed, epochs, rate: of training; rate is the peak learning rate.
        autocast: train under bfloat16 autocast.
    """

    network: str
    kind: str
    format: Format = "program"
    layout: str | None = None
    dialect: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    seed: int = 1
    epochs: int = 8
    rate: float = 4e-3
    autocast: bool = False

    @property
    def name(self) -> str:
        """Stem of the file."""
        return "_".join([self.network, self.kind, *([self.layout] if self.layout else [])])

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.name + (".pt2" if self.format == "program" else ".pt")

    @property
    def model_kwargs(self) -> dict[str, Any]:
        """Arguments with which the factory builds the network that is trained."""
        return {"kind": self.kind, **self.kwargs}

    @property
    def stored_kwargs(self) -> dict[str, Any]:
        """Arguments with which the factory builds the network that is saved."""
        return {**self.model_kwargs, **({"layout": self.layout} if self.layout else {})}

    @property
    def loader_kwargs(self) -> dict[str, Any]:
        """Arguments with which the factory builds the network to load a state_dict into.

        Where a dialect is named that is the network of our norms, as for a user who moved to them; otherwise it
        is the network that was saved, whose own code settles what its keys mean.
        """
        return self.model_kwargs if self.dialect else self.stored_kwargs


RECIPES: dict[str, Recipe] = {
    each.name: each
    for each in (
        Recipe("plain", "l1", "module"),
        Recipe("plain", "linf"),
        Recipe("plain", "topk"),
        Recipe("plain", "topk", "training", layout="convnet-lp", dialect="convnet-lp"),
        Recipe("plain", "range"),
        Recipe("plain", "l2", "module"),
        Recipe("plain", "l1_instance"),
        Recipe("residual", "l1"),
        Recipe("residual", "l1", "training", layout="lp-norm"),
        Recipe("residual", "linf", autocast=True),
        Recipe("residual", "topk", "training"),
        Recipe("residual", "range"),
        Recipe("residual", "l2", "training"),
        Recipe("mixed", "l1"),
        Recipe("mixed", "range"),
        Recipe("preact", "l1"),
        Recipe("preact", "linf"),
        Recipe("bounded", "l1", "training"),
        Recipe("bounded", "linf", kwargs={"p": 1.0}),
        Recipe("bounded", "none"),
        Recipe("rows", "l1"),
    )
}
