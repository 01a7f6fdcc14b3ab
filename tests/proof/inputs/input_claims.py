"""What a candidate is tried at, as plain functions: broken copies of the library must not hold them.

Numbers that graphs ask for, every row of tables and every byte, what a reference bears: by the batches that are made,
and by verdicts on candidates that are wrong at such numbers alone.
"""

from __future__ import annotations

from tests.claims import claim_of
from tests.proof.inputs import test_bearing as bearing
from tests.proof.inputs import test_compared as compared
from tests.proof.inputs import test_following as following
from tests.proof.inputs import test_guarded_tables as guarded
from tests.proof.inputs import test_integer_bounds as bounds
from tests.proof.inputs import test_numbers_asked as asked
from tests.proof.inputs import test_sweep as sweep

COMPARED = (
    claim_of(asked.test_numbers_lie_within_type_bounds_and_what_was_declared),
    claim_of(asked.test_many_numbers_are_thinned_out_and_the_ends_stay),
    claim_of(asked.test_limits_of_types_are_no_numbers_to_try),
    claim_of(asked.test_equal_inputs_are_equal_in_places_alone),
    claim_of(asked.test_inputs_of_other_shapes_or_types_are_not_made_equal),
    claim_of(asked.test_uses_end_where_they_are_told_to),
    claim_of(asked.test_numbers_that_no_float_holds_are_not_asked_for, (1, [-5e37, 5e37, 3e38]), (9, [])),
    claim_of(
        asked.test_numbers_beyond_a_half_type_are_not_asked_of_an_input_of_it,
        ("float32", True),
        ("bfloat16", True),
        ("float16", False),
    ),
    claim_of(asked.test_of_whole_numbers_the_one_asked_for_and_its_neighbours),
    claim_of(asked.test_a_limit_of_whole_numbers_is_asked_for_itself, "Less", "GreaterOrEqual", "Equal"),
    claim_of(asked.test_limits_that_are_not_said_are_asked_for, *asked.UNSAID_LIMITS.values()),
    claim_of(asked.test_a_token_at_which_a_difference_is_zero_is_asked_for),
    claim_of(asked.test_rows_in_which_two_tables_differ_are_asked_for_those_most_that_do),
    claim_of(asked.test_what_is_no_number_is_fed_alone),
    claim_of(asked.test_of_floats_numbers_on_both_sides),
    claim_of(asked.test_each_number_stands_in_a_batch_and_others_stay),
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
    claim_of(sweep.test_numbers_that_no_memory_holds_are_not_fed_where_they_cost_nothing),
    claim_of(sweep.test_a_fixed_batch_is_fed_as_it_is),
    claim_of(sweep.test_bounds_that_were_declared_are_kept, sweep.DECLARED),
    claim_of(sweep.test_a_size_is_not_swept),
    claim_of(sweep.test_a_network_that_takes_long_is_not_swept),
    claim_of(sweep.test_sizes_that_are_asked_for_are_kept),
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

FOLLOWING = (
    claim_of(following.test_a_chain_of_arithmetic_is_undone_exactly),
    claim_of(following.test_what_is_not_a_times_x_plus_b_says_so, *following.FUNCTIONS),
    claim_of(following.test_a_number_divided_by_the_input_is_not_linear_and_a_sum_with_itself_is_not_either),
    claim_of(following.test_what_a_where_hands_on_may_be_another_number, 1, 2),
    claim_of(following.test_what_a_condition_chooses_is_not_its_number),
    claim_of(
        following.test_the_largest_of_several_is_not_each_of_them,
        *((each,) for each in (("ReduceMax", False), ("ReduceMin", False), ("Flatten", True))),
    ),
    claim_of(following.test_operators_of_other_domains_hand_on_nothing),
    claim_of(following.test_constants_are_looked_at_where_they_are_finite_numbers_and_not_many),
)
GUARDED = (
    claim_of(bounds.test_where_another_number_may_stand_in_its_place_no_table_binds_the_input, *bounds.GUARDS.values()),
    claim_of(bounds.test_an_index_beside_a_guarded_one_binds_the_input),
    claim_of(bounds.test_a_wider_type_binds_as_the_number_itself),
    claim_of(guarded.test_every_row_behind_a_guard_is_fed, (guarded.GUARDED["one that stands for nothing"],)),
    claim_of(guarded.test_each_number_that_is_asked_for_is_tried_alone_where_its_neighbours_break),
)

CLAIMS = (*BEARING, *FOLLOWING, *GUARDED, *COMPARED, *SWEEP)
