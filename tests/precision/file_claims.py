"""By which precision a file is judged, as plain functions: broken copies of the library must not hold them."""

from __future__ import annotations

from tests.claims import claim_of
from tests.precision import test_file_precision as files

CLAIMS = (
    claim_of(files.test_a_weight_in_half_that_nothing_reads_does_not_either),
    claim_of(files.test_what_an_output_follows_from_counts, *files.READ),
    claim_of(files.test_a_float32_file_is_one_by_most_of_its_weights, *((each,) for each in files.ALLOWED.values())),
    claim_of(files.test_what_is_no_float32_file_is_refused_by_what_it_computes_in, *files.REFUSED.values()),
    claim_of(files.test_quantisation_in_a_branch_is_seen_too),
    claim_of(
        files.test_an_input_reaches_as_far_as_its_quantiser,
        ("int8 {0}", (-12.8, 12.7)),
        ("uint8 {28}", (-2.8, 22.7)),
    ),
    claim_of(files.test_what_a_pair_stores_is_what_the_file_means_by_a_value),
    claim_of(
        files.test_what_no_output_follows_from_does_not_loosen_the_verdict,
        *((each,) for each in (files.BFLOAT16, files.FLOAT16, files.INT8)),
    ),
)
