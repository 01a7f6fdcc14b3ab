"""What a verdict of PASSED rests on, as plain functions: broken copies of the library must not hold them.

A budget that was small by luck, and nothing that is wrong gets by; limits that no input reaches are told; what does not
run, and whole numbers that float64 takes for equal.
"""

from __future__ import annotations

import numpy as np

from tests.claims import claim_of
from tests.proof import test_exercised as exercised
from tests.proof import test_luck as luck
from tests.proof import test_metrics as metrics
from tests.proof import test_not_run as not_run
from tests.proof import test_unseen as unseen

LUCK = (
    claim_of(luck.test_what_another_baseline_errs_by_is_no_fault),
    claim_of(luck.test_no_more_baselines_run_than_it_takes),
    claim_of(luck.test_what_no_baseline_errs_by_fails_as_it_did),
    claim_of(
        luck.test_what_is_far_out_or_of_another_shape_is_not_asked_again,
        luck.off(1e-3),
        np.zeros((4, 2), np.float32),
        luck.EXACT.astype(np.float32)[:, :1],
    ),
    claim_of(luck.test_each_row_has_its_own_kindest_baseline),
    claim_of(luck.test_two_wrong_channels_do_not_excuse_each_other),
    claim_of(luck.test_a_channel_that_is_out_once_the_whole_is_within_counts),
    claim_of(luck.test_all_batches_of_an_output_are_judged_by_one_baseline),
    claim_of(luck.test_what_another_baseline_did_not_judge_is_not_excused_by_it),
    claim_of(luck.test_an_output_and_a_boundary_of_one_name_are_two),
    claim_of(luck.test_where_one_output_is_left_out_none_is_excused),
    claim_of(
        luck.test_a_miss_is_near_up_to_a_known_share_of_the_budget_and_without_a_fault,
        *((0.5, False), (1.5, True), (32.0, True), (32.5, False)),
    ),
    claim_of(luck.test_the_note_names_what_was_out_and_nothing_else),
    claim_of(luck.test_doubts_of_what_was_within_stay),
    claim_of(luck.test_boundaries_may_have_luck_in_different_baselines),
)

EXERCISED = (
    claim_of(exercised.test_a_ceiling_is_told_unless_a_number_lies_beyond, 1, 5, 7),
    claim_of(exercised.test_numbers_of_all_batches_count),
    claim_of(exercised.test_a_rectifier_that_passes_everything_or_nothing, "Relu", "Selu"),
    claim_of(exercised.test_each_function_has_its_own_limits, *exercised.FUNCTIONS),
    claim_of(exercised.test_the_attributes_of_an_old_clip),
    claim_of(exercised.test_limits_that_are_there_never_to_be_reached_are_not_told, 1e-12, 3e38),
    claim_of(exercised.test_a_condition_that_is_the_same_throughout),
    claim_of(exercised.test_what_sizes_decide_is_not_told),
    claim_of(exercised.test_boxes_of_which_none_goes_for_another),
    claim_of(exercised.test_a_limit_that_is_the_least_or_largest_number_was_not_crossed, 0.0, 6.0),
    claim_of(exercised.test_limits_of_channels_are_asked_for_one_by_one),
    claim_of(exercised.test_a_batch_of_nan_hides_no_other),
    claim_of(exercised.test_a_limit_may_stand_on_either_side),
    claim_of(exercised.test_of_what_a_function_gives_a_limit_beyond_its_ends_is_none),
    claim_of(exercised.test_of_operators_that_are_not_onnx_nothing_is_told),
    claim_of(exercised.test_long_lists_are_cut),
    claim_of(unseen.test_one_run_shows_what_no_input_reaches, *unseen.MEASURED),
    claim_of(unseen.test_what_acts_and_is_seen_is_nothing_to_tell, "loop", "floor", "gate", "stacked", "divisor"),
    claim_of(unseen.test_what_is_nearly_nothing_is_counted_and_not_told, 3e-6, 3e-5, 3e-4),
    claim_of(unseen.test_a_node_that_nothing_can_measure_hides_no_other),
    claim_of(unseen.test_a_branch_that_is_never_run_has_nothing_to_tell),
    claim_of(unseen.test_what_follows_from_a_type_is_no_number),
    claim_of(unseen.test_softplus_may_be_straight_where_it_is, *unseen.SOFTPLUS),
    claim_of(exercised.test_names_with_braces_and_graphs_that_do_not_run),
)

REFUSED = (
    claim_of(not_run.test_every_output_fails_on_the_first_inputs_that_it_does_not_run_on),
    claim_of(
        not_run.test_it_is_an_error_where_a_reference_refuses_too_or_the_candidate_runs_on_nothing,
        *not_run.WRONG_INPUTS,
    ),
)
WHOLE = (
    claim_of(
        metrics.test_whole_numbers_that_float64_takes_for_equal_differ,
        *((each,) for each in ((np.int64, np.int64), (np.uint64, np.uint64), (np.int64, np.uint64))),
    ),
)

CLAIMS = (*LUCK, *EXERCISED, *REFUSED, *WHOLE)
