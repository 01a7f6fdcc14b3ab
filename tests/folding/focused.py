"""A few seconds of the fold's checks without torch: every case of the tables and some random networks.

    python -m tests.folding.focused

Exits 1 at the first claim that does not hold, and names it. This is what a broken rule must not survive.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from itertools import product

import numpy as np

from normexport.norms import OPSET
from tests.folding import (
    table_axes,
    table_bodies,
    table_folds,
    table_permutations,
    table_products,
    table_refuses,
    table_safe,
)
from tests.folding.build import GraphBuilder
from tests.folding.choices import SeededChoices
from tests.folding.claims import check_case, check_fold, operators
from tests.folding.random_graphs import random_feeds, random_model
from tests.folding.spelled import files, layouts, places
from tests.folding.spellings import FORMS, PLACES

#: Of the networks, the first ones, and those that alone show what some rule is for.
SEEDS = (*range(60), 131, 135, 166, 357, 1003)
SECONDS = 60  # of processor time, however busy the machine is: what takes longer than that goes on for ever


def main() -> int:
    signal.signal(signal.SIGPROF, _end)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    tables = table_folds, table_refuses, table_safe, table_axes, table_products, table_permutations, table_bodies
    for case in [case for table in tables for case in table.CASES.all]:
        try:
            check_case(case)
        except Exception as error:  # a crash counts as much as a wrong number
            print(f"{case.verdict} {case.name}: {type(error).__name__}: {error}")
            return 1
    for place, form in product(PLACES, FORMS):
        try:
            b = GraphBuilder()
            b.output(PLACES[place][0](b, FORMS[form]))
            folded = check_fold(b.model(), random_feeds(b.model()))
            assert operators(folded.after) == Counter(PLACES[place][1])
        except Exception as error:
            print(f"{form}, {place}: {type(error).__name__}: {error}")
            return 1
    for row in [row for table in (layouts, places, files) for row in table.ROWS.all]:
        if row.dtype != np.float64 or row.opset != OPSET:
            continue  # slower to compare, and by the same rules
        try:
            model = row.net().model()
            folded = check_fold(model, random_feeds(model))
            assert operators(folded.after) == Counter(row.left.split())
        except Exception as error:
            print(f"{row.name}: {type(error).__name__}: {error}")
            return 1
    for seed in SEEDS:
        try:
            model = random_model(SeededChoices(seed))
            check_fold(model, random_feeds(model))
        except Exception as error:
            print(f"random network {seed}: {type(error).__name__}: {error}")
            return 1
    return 0


def _end(*_: object) -> None:
    raise TimeoutError(f"not done after {SECONDS} seconds")


if __name__ == "__main__":
    sys.exit(main())
