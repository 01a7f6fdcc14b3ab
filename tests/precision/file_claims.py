"""What the precision of a file follows from, as plain functions: broken copies of the library must not hold them."""

from __future__ import annotations

from tests.claims import claim_of
from tests.precision import test_file_precision as files

READ = (
    claim_of(files.test_what_an_output_follows_from_counts, *files.READ),
    claim_of(files.test_a_weight_in_half_that_nothing_reads_does_not_either),
    claim_of(files.test_weights_in_half_that_an_output_follows_from_count),
    claim_of(files.test_a_float8_zero_point_says_what_its_pair_holds),
    claim_of(files.test_a_model_that_is_asked_stays_as_it_is),
    claim_of(files.test_quantisation_in_a_branch_is_seen_too),
)
FLOAT32 = (
    claim_of(files.test_a_float32_file_is_one_by_most_of_its_weights, *((each,) for each in files.ALLOWED.values())),
    claim_of(files.test_what_is_no_float32_file_is_refused_by_what_it_computes_in, *files.REFUSED.values()),
)
HELD = (
    claim_of(files.test_an_input_reaches_as_far_as_its_quantiser, ("uint8 {28}", (-2.8, 22.7))),
    claim_of(files.test_an_input_of_a_float8_quantiser_reaches_as_far_on_both_sides),
    claim_of(files.test_of_a_quantiser_with_a_scale_for_each_channel_nothing_is_said),
    claim_of(files.test_what_a_pair_stores_is_what_the_file_means_by_a_value),
)

CLAIMS = (*READ, *FLOAT32, *HELD)
