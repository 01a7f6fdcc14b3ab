"""A few seconds of the fold's checks without torch: every case of the tables and some random networks.

    python -m tests.claims tests.folding.focused

Exits 1 at the first claim that does not hold, and names it. This is what a broken rule must not survive.
"""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np

from normexport.norms import OPSET
from tests.claims import about, ending_within
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

SECONDS = 5  # of processor time, for a case that takes a hundredth of one: it is folded for ever
#: Of the networks, the first ones, and those that alone show what some rule is for.
SEEDS = (*range(60), 131, 135, 166, 357, 1003)


def cases_fold_or_are_refused() -> None:
    tables = table_folds, table_refuses, table_safe, table_axes, table_products, table_permutations, table_bodies
    for case in [case for table in tables for case in table.CASES.all]:
        with about(f"{case.verdict} {case.name}"), ending_within(SECONDS):
            check_case(case)


def norms_spelled_otherwise_fold_in_every_place() -> None:
    for place, form in product(PLACES, FORMS):
        with about(f"{form}, {place}"), ending_within(SECONDS):
            b = GraphBuilder()
            b.output(PLACES[place][0](b, FORMS[form]))
            folded = check_fold(b.model(), random_feeds(b.model()))
            assert operators(folded.after) == Counter(PLACES[place][1])


def written_networks_leave_the_operators_that_they_should() -> None:
    for row in [row for table in (layouts, places, files) for row in table.ROWS.all]:
        if row.dtype != np.float64 or row.opset != OPSET:
            continue  # slower to compare, and by the same rules
        with about(row.name), ending_within(SECONDS):
            model = row.net().model()
            folded = check_fold(model, random_feeds(model))
            assert operators(folded.after) == Counter(row.left.split())


def random_networks_compute_the_same() -> None:
    for seed in SEEDS:
        with about(f"random network {seed}"), ending_within(SECONDS):
            model = random_model(SeededChoices(seed))
            check_fold(model, random_feeds(model))


#: Those first that notice most for their time: of 14 mutations 10, 13, 7 and 4.
CLAIMS = (
    written_networks_leave_the_operators_that_they_should,
    cases_fold_or_are_refused,
    random_networks_compute_the_same,
    norms_spelled_otherwise_fold_in_every_place,
)
