"""What a candidate is tried at, as plain functions: broken copies of the library must not hold them.

Numbers that graphs ask for, every row of tables and every byte, what a reference bears: by the batches that are made,
and by verdicts on candidates that are wrong at such numbers alone.
"""

from __future__ import annotations

from tests.claims import claim_of
from tests.proof.inputs import test_bearing as bearing
from tests.proof.inputs import test_compared as compared
from tests.proof.inputs import test_sweep as sweep

COMPARED = (
    claim_of(compared.test_numbers_lie_within_type_bounds_and_what_was_declared),
    claim_of(compared.test_many_numbers_are_thinned_out_and_the_ends_stay),
    claim_of(compared.test_limits_of_types_are_no_numbers_to_try),
    claim_of(compared.test_equal_inputs_are_equal_in_places_alone),
    claim_of(compared.test_inputs_of_other_shapes_or_types_are_not_made_equal),
    claim_of(compared.test_uses_end_where_they_are_told_to),
    claim_of(compared.test_numbers_that_no_float_holds_are_not_asked_for, (1, [-5e37, 5e37, 3e38]), (9, [])),
    claim_of(
        compared.test_numbers_beyond_a_half_type_are_not_asked_of_an_input_of_it,
        ("float32", True),
        ("bfloat16", True),
        ("float16", False),
    ),
    claim_of(compared.test_of_whole_numbers_the_one_asked_for_and_its_neighbours),
    claim_of(compared.test_of_floats_numbers_on_both_sides),
    claim_of(compared.test_each_number_stands_in_a_batch_and_others_stay),
    claim_of(compared.test_floats_that_one_of_the_graphs_asks_for, *((each,) for each in compared.OF_FLOATS.values())),
    claim_of(compared.test_a_token_that_is_asked_for_in_other_words, *((each,) for each in compared.UNSAID.values())),
    claim_of(compared.test_one_row_of_a_table_that_is_another),
    claim_of(compared.test_inputs_that_are_asked_whether_they_are_equal),
    claim_of(compared.test_a_column_of_many_that_knows_a_number_for_what_is_missing),
    claim_of(compared.test_where_the_reference_does_not_bear_all_at_once_each_is_tried_alone),
    claim_of(compared.test_floats_are_not_asked_to_be_equal_after_arithmetic),
    claim_of(compared.test_what_the_reference_does_not_bear_is_left_out_and_named),
)

SWEEP = (
    claim_of(sweep.test_what_is_fed_anyway_is_not_fed_again),
    claim_of(
        sweep.test_bytes_are_fed_within_the_end_that_they_have,
        (0, None, (0, 127)),
        (None, 0, (-128, 0)),
        (None, None, (-128, 127)),
    ),
    claim_of(sweep.test_a_table_that_is_said_to_have_more_rows_than_any_memory_holds),
    claim_of(sweep.test_a_fixed_batch_is_fed_as_it_is),
    claim_of(sweep.test_every_number_is_fed_or_their_share_is_told),
    claim_of(sweep.test_one_value_of_a_byte),
    claim_of(sweep.test_a_wrong_row_of_a_table_in_front_of_the_table),
)

BEARING = (
    claim_of(bearing.test_what_does_not_run_or_overflows_breaks),
    claim_of(bearing.test_where_it_breaks_at_the_first_nothing_is_said_of_the_others),
    claim_of(bearing.test_what_float64_refuses_breaks_too),
    claim_of(bearing.test_far_from_its_float64_is_broken, (2e-4, {1, 3}), (5e-5, set())),
    claim_of(bearing.test_what_is_off_at_the_lowest_range_may_be_ten_times_as_far_off_elsewhere),
    claim_of(bearing.test_an_error_that_is_no_number_is_broken),
    claim_of(bearing.test_an_output_is_named_only_where_it_was_finite_before),
    claim_of(bearing.test_distances_are_those_of_the_worst_output_over_what_is_finite),
    claim_of(bearing.test_of_whole_numbers_the_share_that_differs_counts),
    claim_of(bearing.test_numbers_of_other_types_are_read_as_float32),
)

CLAIMS = (*BEARING, *COMPARED, *SWEEP)
