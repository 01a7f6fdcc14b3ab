"""The tables of docs/norm-matters.md, made of the results: medians over seeds, and in brackets their range."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from examples.norm_matters import decay, kinds, networks, precision, runs
from examples.norm_matters.runs import Case, Result

Runs = Sequence[tuple[Case, Result]]
ARM_NAMES = {
    "decay": "weight decay on the convolutions",
    "none": "no weight decay",
    "eq4": "no weight decay, equation 4",
    "everywhere": "weight decay on all parameters",
}


def spread(values: Sequence[float], form: str = ".1%") -> str:
    """`median (smallest to largest)`."""
    middle, low, high = (format(each, form) for each in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def rows(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def decay_table(done: Runs) -> str:
    """(a): accuracy at the end of each arm, and the share of the gap that it closes, seed by seed."""
    body = []
    for arm, name in ARM_NAMES.items():
        ends = [result[arm]["accuracy"][-1] for _, result in done]
        closed = [gap_closed(result, arm) for _, result in done]
        body.append([name, spread(ends), spread(closed, ".0%") if arm in ("eq4", "everywhere") else ""])
    return rows(["run", "test accuracy", "of the gap to weight decay closed"], body)


def gap_closed(result: Result, arm: str) -> float:
    """(arm - none) / (decay - none), of one seed's accuracies at the end."""
    end = {name: result[name]["accuracy"][-1] for name in (arm, "none", "decay")}
    return float((end[arm] - end["none"]) / (end["decay"] - end["none"]))


def growth_table(done: Runs) -> str:
    """(b): per arm, medians over layers of norm, effective step size and turn, three times in the training."""
    times = {"at first": 0, "at half": len(decay_steps(done)) // 2, "30 steps before the end": -1}
    body = []
    for arm, name in ARM_NAMES.items():
        for quantity, word in (("norm", "norm"), ("step_size", "effective step size"), ("turn", "turn of a step, rad")):
            values = [
                [statistics.median(result[arm][quantity][: len(decay_steps(done)) - 1][index]) for _, result in done]
                for index in times.values()
            ]
            body.append([name, word, *(spread(each, ".2g") for each in values)])
    return rows(["run", "", *times], body)


def decay_steps(done: Runs) -> list[int]:
    """The steps at which figures (a) and (b) were kept."""
    return list(done[0][1][decay.ARMS[0]]["step"])


def kinds_table(done: Runs) -> str:
    """(c): each variant at the step size that is best on the validation images, and at the others."""
    body = []
    for variant in networks.VARIANTS:
        best = best_rate(done, variant)
        rates = kinds.rates_of(variant)
        tests = {rate: [result["test"] for _, result in of(done, variant=variant, rate=rate)] for rate in rates}
        elsewhere = ", ".join(f"{rate:g}: {statistics.median(tests[rate]):.1%}" for rate in rates if rate != best)
        body.append([variant, spread(tests[best]), f"{best:g}", elsewhere])
    return rows(["what normalises", "test accuracy", "step size", "at other step sizes"], body)


def best_rate(done: Runs, variant: str) -> float:
    """The step size of the best median accuracy on the validation images."""

    def middle(rate: float) -> float:
        return float(statistics.median(result["validation"] for _, result in of(done, variant=variant, rate=rate)))

    return max(kinds.rates_of(variant), key=middle)


def precision_table(done: Runs) -> str:
    """(d): each setting by the length of the weights."""
    body = []
    for norm, type_name, eps in precision.SETTINGS:
        cells = []
        for length in precision.LENGTHS:
            cells.append(
                spread(
                    [result["test"] for _, result in of(done, norm=norm, type=type_name, eps=eps, length=length)], ".0%"
                )
            )
        body.append([norm, type_name, f"{eps:g}", *cells])
    return rows(["norm", "type", "epsilon", *(f"2^{length}" for length in precision.LENGTHS)], body)


def speed_table(done: Runs) -> str:
    """(e): ratios to the step with nn.BatchNorm2d: the median of the rounds, and in brackets the deciles."""
    names = list(done[0][1]["ratios"])
    body = []
    for name in names:
        threes = [result["ratios"][name] for _, result in done]
        body.append([name, *(f"{middle:.2f} ({low:.2f} to {high:.2f})" for middle, low, high in threes)])
    return rows(["norm", *(f"{case['threads']} thread{'s' * (case['threads'] > 1)}" for case, _ in done)], body)


def of(done: Runs, **wanted: object) -> Runs:
    """The runs whose case has these values."""
    return [(case, result) for case, result in done if wanted.items() <= case.items()]


def all_tables() -> Mapping[str, str]:
    """name -> the table, of the results that are kept."""
    made = {"decay": runs.read("decay"), "kinds": runs.read("kinds"), "precision": runs.read("precision")}
    return {
        "accuracy": decay_table(made["decay"]),
        "growth": growth_table(made["decay"]),
        "kinds": kinds_table(made["kinds"]),
        "precision": precision_table(made["precision"]),
        "speed": speed_table(runs.read("speed")),
    }
