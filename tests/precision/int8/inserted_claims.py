"""What stands around pairs of QuantizeLinear and DequantizeLinear, as plain functions for broken copies of the library.

Shields of float layers, what a Clip keeps, fresh names, and what stays float32 behind the last layer.
"""

from __future__ import annotations

from tests.claims import claim_of
from tests.precision.int8 import test_behind_last_layer as behind
from tests.precision.int8 import test_clips as clips
from tests.precision.int8 import test_float_layers as floats
from tests.precision.int8 import test_qdq_insert as insert

SHIELDS = (
    claim_of(floats.test_a_float_layer_between_pairs_is_computed_in_float, "conv", "pool, conv", "pad, conv", "gemm"),
    claim_of(floats.test_what_is_int8_has_no_shield),
    claim_of(floats.test_a_shield_is_of_its_layer_and_holds_no_norm_itself),
    claim_of(floats.test_what_computes_needs_no_shield_and_is_none, *((each,) for each in floats.UNSHIELDED)),
    claim_of(floats.test_a_shield_says_what_it_hands_on),
)
CLIPS = (
    claim_of(clips.test_the_numbers_within_the_ends_are_those_that_stay, *((each,) for each in clips.CLIPS.values())),
    claim_of(clips.test_ends_that_are_no_constants_are_not_known, *((each,) for each in clips.UNKNOWN.values())),
    claim_of(clips.test_a_value_is_clipped_behind_where_nothing_else_reads_it, *clips.BEHIND.values()),
)
NAMES = (claim_of(insert.test_names_that_the_pairs_would_take_stay_with_their_owners, False, True),)
BEHIND = (
    claim_of(behind.test_scores_beside_boxes_are_as_good_as_their_layer, False, True),
    claim_of(behind.test_what_a_layer_reads_further_down_is_in_int8_as_ever),
    claim_of(behind.test_residual_additions_between_layers_are_in_int8_as_ever),
    claim_of(behind.test_behind_layers_left_in_float32_nothing_is_in_int8),
)

CLAIMS = (*CLIPS, *SHIELDS, *NAMES, *BEHIND)
