"""Small networks for 1x28x28 digits, each with one norm throughout, and a factory for each.

The classes take `norm`, a function channels -> module (of the dimension the network needs), or None for no
norm; convolutions have a bias only where there is none. The factories below them take plain words, so that
`--model examples.networks:residual --model-kwargs '{"kind": "topk"}'` builds the network of a checkpoint.

Between them they show every place a norm can stand: behind a convolution (plain, depthwise, strided, 1-d), a
grouped transposed convolution, a linear layer, a pool, a concat and the input; before an add; and, in
`PreActivation`, where it can't be folded.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import normexport.nn
from examples import layouts
from normexport.errors import UsageError
from normexport.norms import kind as kind_of

MakeNorm = Callable[[int], nn.Module]


def conv_norm(inputs: int, outputs: int, size: int, norm: MakeNorm | None, **how: int) -> nn.Sequential:
    """Convolution ("same" padding unless given) -> norm."""
    how.setdefault("padding", size // 2)
    conv = nn.Conv2d(inputs, outputs, size, bias=norm is None, **how)
    return nn.Sequential(conv) if norm is None else nn.Sequential(conv, norm(outputs))


def plain_of(norm: MakeNorm) -> nn.Sequential:
    """Three convolutions; in the second stage the norm stands behind the max-pool, not behind the convolution.

    A bare nn.Sequential of library layers, so that its pickle names no code of this folder.
    """
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1, bias=False), norm(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), norm(32), nn.ReLU()),
        *(nn.Conv2d(32, 32, 3, padding=1, bias=False), norm(32), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, 10)),
    )


class ResidualBlock(nn.Module):
    """relu(norm(conv(relu(norm(conv(x))))) + shortcut(x)); a norm ends the shortcut too where it has a convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: MakeNorm) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, norm, stride=stride)
        self.second = conv_norm(outputs, outputs, 3, norm)
        same = stride == 1 and inputs == outputs
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, norm, stride=stride)

    def forward(self, input: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return torch.relu(self.second(torch.relu(self.first(input))) + self.shortcut(input))


class Residual(nn.Module):
    """Residual network, norms before the adds."""

    def __init__(self, norm: MakeNorm) -> None:
        super().__init__()
        self.stem = conv_norm(1, 16, 3, norm, stride=2)
        self.layer1 = ResidualBlock(16, 16, 1, norm)
        self.layer2 = ResidualBlock(16, 32, 2, norm)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

    def forward(self, input: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> logits (N, 10)."""
        return self.head(self.layer2(self.layer1(torch.relu(self.stem(input)))))


class Mixed(nn.Module):
    """A norm on the input, a depthwise and a grouped transposed convolution, a concat, average pools."""

    def __init__(self, norm: MakeNorm) -> None:
        super().__init__()
        self.standardize = norm(1)
        self.stem = conv_norm(1, 8, 5, norm, stride=2, padding=0)
        self.depthwise = conv_norm(8, 8, 3, norm, groups=8)
        self.pointwise = conv_norm(8, 24, 1, norm)
        self.narrow = nn.Conv2d(24, 16, 1, bias=False)
        self.wide = nn.Conv2d(24, 16, 3, padding=1, bias=False)
        self.joined = norm(32)
        self.down = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.AvgPool2d(2), norm(32))
        self.up = nn.Sequential(nn.ConvTranspose2d(32, 16, 4, 2, 1, groups=4, bias=False), norm(16))
        self.head = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16 * 9, 10))

    def forward(self, input: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> logits (N, 10)."""
        hidden = torch.relu(self.stem(self.standardize(input)))
        hidden = torch.relu(self.pointwise(torch.relu(self.depthwise(hidden))))
        hidden = torch.relu(self.joined(torch.cat([self.narrow(hidden), self.wide(hidden)], dim=1)))
        return self.head(torch.relu(self.up(torch.relu(self.down(hidden)))))


class PreActivationBlock(nn.Module):
    """conv(relu(norm(conv(relu(norm(x)))))) + shortcut: where that is x itself, the first norm can't fold."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: MakeNorm) -> None:
        super().__init__()
        self.norm1 = norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = stride == 1 and inputs == outputs
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        active = torch.relu(self.norm1(input))
        shortcut = input if self.shortcut is None else self.shortcut(active)
        return self.conv2(torch.relu(self.norm2(self.conv1(active)))) + shortcut


class PreActivation(nn.Module):
    """Pre-activation residual network: norm -> relu -> convolution."""

    def __init__(self, norm: MakeNorm) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, 2, padding=1, bias=False)
        self.layer1 = PreActivationBlock(16, 16, 1, norm)
        self.layer2 = PreActivationBlock(16, 32, 2, norm)
        self.norm = norm(32)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))

    def forward(self, input: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> logits (N, 10)."""
        return self.head(torch.relu(self.norm(self.layer2(self.layer1(self.stem(input))))))


class Bounded(nn.Module):
    """Convolutions and a linear layer whose weights have bounded norms, with norms of activations or without."""

    def __init__(self, norm: MakeNorm | None, p: float = 2.0) -> None:
        super().__init__()
        self.first = conv_norm(1, 16, 3, norm, stride=2)
        self.second = conv_norm(16, 32, 3, norm)
        self.third = conv_norm(32, 32, 3, norm)
        self.pool = nn.MaxPool2d(2)
        self.linear = nn.Linear(32 * 3 * 3, 10)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)  # rho is the initial norm, so this sets the gain for good
                normexport.nn.bounded_weight_norm(module, p=p)

    def forward(self, input: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> logits (N, 10)."""
        hidden = self.pool(torch.relu(self.second(torch.relu(self.first(input)))))
        return self.linear(self.pool(torch.relu(self.third(hidden))).flatten(1))


class Rows(nn.Module):
    """An image as a sequence of 28 rows: 1-d convolutions and a linear layer, each with a norm (of `(N, C, L)`)."""

    def __init__(self, norm: MakeNorm) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv1d(28, 32, 3, padding=1, bias=False), norm(32), nn.ReLU(), nn.MaxPool1d(2)),
            *(nn.Conv1d(32, 48, 3, padding=1, bias=False), norm(48), nn.ReLU(), nn.MaxPool1d(2)),
        )
        self.hidden = nn.Sequential(nn.Linear(48 * 7, 32, bias=False), norm(32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, input: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> logits (N, 10). Rows are channels, columns are positions."""
        return self.head(self.hidden(self.features(input.flatten(1, 2)).flatten(1)))


def make_norm(kind: str, dims: int = 2, layout: str | None = None) -> MakeNorm:
    """channels -> the norm of `kind` for inputs with `dims` space axes.

    Args:
        kind: "l1", "linf", "topk", "range" or "l2", or one of these with "_instance" behind it.
        dims: 1 or 2.
        layout: None for the modules of normexport.nn; else a name in `layouts.LAYOUTS`, for the parameters and
            evaluation arithmetic of another project (2-d, batch norms).

    Raises:
        UsageError: unknown kind, or unknown layout.
    """
    name, _, instance = kind.partition("_")
    title = kind_of(name).title
    if layout is not None:
        return layouts.layout_of(layout)
    if not instance:
        return getattr(normexport.nn, f"{title}BatchNorm{dims}d")
    cls = getattr(normexport.nn, f"{title}InstanceNorm{dims}d")
    return lambda channels: cls(channels, affine=True)


def plain(kind: str = "l1", layout: str | None = None) -> nn.Sequential:
    """`plain_of` norms of `kind`, stored as `layout` says."""
    return plain_of(make_norm(kind, layout=layout))


def residual(kind: str = "l1", layout: str | None = None) -> Residual:
    """`Residual` with norms of `kind`, stored as `layout` says."""
    return Residual(make_norm(kind, layout=layout))


def mixed(kind: str = "l1") -> Mixed:
    """`Mixed` with norms of `kind`."""
    return Mixed(make_norm(kind))


def preact(kind: str = "l1") -> PreActivation:
    """`PreActivation` with norms of `kind`."""
    return PreActivation(make_norm(kind))


def bounded(kind: str = "l1", p: float = 2.0) -> Bounded:
    """`Bounded` with norms of `kind`, or with none of activations where kind is "none"; p is the weights' norm."""
    return Bounded(None if kind == "none" else make_norm(kind), p)


def rows(kind: str = "l1") -> Rows:
    """`Rows` with norms of `kind`."""
    return Rows(make_norm(kind, dims=1))


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    each.__name__: each for each in (plain, residual, mixed, preact, bounded, rows)
}


def build(network: str, kwargs: dict[str, object]) -> nn.Module:
    """The network called `network`, untrained.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    if network not in NETWORKS:
        raise UsageError(f"network {network!r}", "is not among the examples", f"choose one of {', '.join(NETWORKS)}")
    return NETWORKS[network](**kwargs)
