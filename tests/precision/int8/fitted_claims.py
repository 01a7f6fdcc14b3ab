"""What edits of int8 rest on, as plain functions for broken copies of the library.

Biases that are absorbed, weights rounded by least squares, extremes of channels, edits by norms; which samples judge.
"""

from __future__ import annotations

from normexport.precision import Fp8, Int8
from normexport.precision.int8 import rounding
from tests.claims import Claim, claim_of
from tests.precision.int8 import test_absorb as absorb
from tests.precision.int8 import test_bias_by_norms as by_norms
from tests.precision.int8 import test_extremes as extremes
from tests.precision.int8 import test_held_out as held_out
from tests.precision.int8 import test_rounding as rounded

ABSORBED = (
    claim_of(absorb.test_what_a_channel_has_at_least_moves_behind, "plain", "groups", "two readers", "no bias"),
    claim_of(absorb.test_where_that_is_not_exact_nothing_moves, *absorb.NOT_EXACT),
    claim_of(absorb.test_of_matrices_nothing_moves_that_a_bias_does_not_take, *absorb.COLUMNS),
)


def _rounding(claim: rounded.RoundingClaim) -> Claim:
    def of_the_library() -> None:
        claim(rounding.round_by_least_squares)

    of_the_library.__name__ = getattr(claim, "__name__", "")
    return of_the_library


ROUNDED = (
    *map(_rounding, rounded.CLAIMS),
    claim_of(rounded.test_a_rounded_file_holds_other_weights_on_the_same_grid),
    claim_of(rounded.test_weights_are_rounded_for_the_errors_that_biases_leave, "conv", "matmul"),
    claim_of(rounded.test_layers_that_can_not_be_rounded_so_say_why),
)
EXTREMES = (extremes.many_extremes, extremes.tensors_with_a_nan_are_left_out)
BY_NORMS = (
    claim_of(by_norms.test_of_all_errors_and_those_worth_it_the_better_is_kept, *by_norms.LEVELS),
    claim_of(by_norms.test_where_nothing_is_drawn_biases_take_what_the_norms_tell, Int8, Fp8),
    claim_of(by_norms.test_data_that_judges_decides_whether_the_correction_is_kept),
)
SAMPLES = (
    claim_of(
        held_out.test_every_4th_sample_of_calibration_data_is_kept_for_judging,
        *((8, 2, 1), (9, 2, 3), (255, 63, 3), (1000, 64, 8)),
    ),
    claim_of(held_out.test_an_iterable_of_unknown_length_is_parted_too),
    claim_of(held_out.test_data_alone_is_parted_with_its_labels),
    claim_of(held_out.test_calibrated_and_judged_apart_passes_and_says_how_many),
    claim_of(held_out.test_fewer_than_8_samples_prove_nothing),
    claim_of(held_out.test_samples_that_calibrated_do_not_judge),
    claim_of(held_out.test_one_sample_given_many_times_does_not_judge_itself),
    claim_of(held_out.test_a_model_of_a_fixed_batch_is_judged_over_runs),
    claim_of(held_out.test_digests_tell_samples_by_all_that_the_model_reads),
)

CLAIMS = (*ABSORBED, *EXTREMES, *SAMPLES, *ROUNDED, *BY_NORMS)
