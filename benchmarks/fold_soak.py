"""Fold many random networks and check every claim on each; failing seeds are printed and can be run alone.

PYTHONPATH=. python benchmarks/fold_soak.py --examples 20000 --seed 0
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter

from tests.folding import torch_eval
from tests.folding.choices import SeededChoices
from tests.folding.claims import by_reference, check_fold
from tests.folding.random_graphs import random_feeds, random_model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0, help="the first seed; each network takes the next one")
    parser.add_argument("--show", type=int, default=3, help="how many failures to print with their traceback")
    args = parser.parse_args()
    failed: list[int] = []
    told: Counter[str] = Counter()
    start = time.perf_counter()
    for seed in range(args.seed, args.seed + args.examples):
        try:
            model = random_model(SeededChoices(seed))
            folded = check_fold(model, random_feeds(model, seed), (by_reference, torch_eval.evaluate))
            told.update(f"{n.fate} {n.rule}".strip() for n in folded.result.norms)
        except Exception:  # a crash of the fold is a finding like any other
            failed.append(seed)
            if len(failed) <= args.show:
                print(f"seed {seed}\n{traceback.format_exc()}")
    print(f"{args.examples} networks, {len(failed)} failed, {time.perf_counter() - start:.0f} s")
    print("\n".join(f"{count:8d} {what}" for what, count in told.most_common()))
    if failed:
        print("failing seeds:", *failed[:50])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
