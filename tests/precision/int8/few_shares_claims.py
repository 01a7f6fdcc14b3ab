"""What few shares are judged by, as plain functions for broken copies of the library."""

from __future__ import annotations

from tests.claims import claim_of
from tests.precision.int8 import test_few_shares as few

CLAIMS = (
    claim_of(few.test_log_odds_are_the_logits_of_a_sigmoid_and_of_two_classes),
    claim_of(few.test_log_odds_end_at_one_in_a_million_and_keep_nan),
    claim_of(few.test_shares_hang_on_those_that_are_undecided),
    claim_of(few.test_one_undecided_sample_does_not_say_which_model_is_better),
    claim_of(few.test_of_many_shares_their_own_level_counts),
    claim_of(few.test_nan_among_few_shares_is_the_worst_level),
)
