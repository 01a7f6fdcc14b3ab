"""Many random networks through folding, half precision and int8; what fails is printed with its seed.

python -m tests.precision.random_campaign fp16 int8 --count 2000 --seed 0
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.folding.choices import SeededChoices
from tests.precision.random_claims import CONVERSIONS, judged
from tests.precision.random_networks import random_network


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("conversions", nargs="*", default=list(CONVERSIONS), metavar="|".join(CONVERSIONS))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="the first seed; each network takes the next one")
    parser.add_argument("--show", type=int, default=20, help="how many failures to print")
    parser.add_argument("--verbose", action="store_true", help="print what was refused and warned of, too")
    args = parser.parse_args()
    found: dict[str, Counter[str]] = {what: Counter() for what in args.conversions}
    refusals: Counter[str] = Counter()
    bad, start = 0, time.perf_counter()
    for index, seed in enumerate(range(args.seed, args.seed + args.count)):
        if index and index % 100 == 0:
            print(index, {what: dict(counts) for what, counts in found.items()}, flush=True)
        network = random_network(SeededChoices(seed))
        for what in args.conversions:
            outcome = judged(network, what)
            found[what][outcome.kind] += 1
            bad += outcome.is_bad
            if outcome.kind == "refused":
                refusals[f"{what}: {outcome.why.split(': ')[-1][:100]}"] += 1
            if (outcome.is_bad and bad <= args.show) or (args.verbose and outcome.kind != "right"):
                print(f"seed {seed} {what} {outcome.kind}: {outcome.why}", flush=True)
    print(f"{args.count} networks from seed {args.seed} on, {time.perf_counter() - start:.0f} s")
    for what, counts in found.items():
        print(f"{what:15s}", ", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
    for why, count in refusals.most_common(20):
        print(f"{count:6d} refused, {why}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
