"""A few seconds of the fold's checks without torch: every case of the tables and some random networks.

    python -m tests.folding.focused

Exits 1 at the first claim that does not hold, and names it. This is what a broken rule must not survive.
"""

from __future__ import annotations

import sys

from tests.folding import table_folds, table_refuses, table_safe
from tests.folding.choices import SeededChoices
from tests.folding.claims import check_case, check_fold
from tests.folding.random_graphs import random_feeds, random_model

NETWORKS = 60


def main() -> int:
    for case in [*table_folds.CASES.all, *table_refuses.CASES.all, *table_safe.CASES.all]:
        try:
            check_case(case)
        except Exception as error:  # a crash counts as much as a wrong number
            print(f"{case.verdict} {case.name}: {type(error).__name__}: {error}")
            return 1
    for seed in range(NETWORKS):
        try:
            model = random_model(SeededChoices(seed))
            check_fold(model, random_feeds(model))
        except Exception as error:
            print(f"random network {seed}: {type(error).__name__}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
