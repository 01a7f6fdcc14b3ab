"""int8 and fp8: calibration, pairs of QuantizeLinear and DequantizeLinear, the search for what must stay in float32.

Where to begin reading is `search`, which goes through all of it, each idea in a few modules:

    samples     sample_roles held_out first_samples        which calibrate, which judge
    ranges      ranges_for calibration calibrated gather state histogram ranges contradiction
                without data: from_norms propagate spreads spread_rules spread_functions
                of training: as_trained from_training pairs_given grids
    the graph   quantise insert value_scales layer_constants additions pairs clips float_layers remainder
                numbers: activations storage weights corrections
    edits       edits edits_by_norms drawn fitting
                equalised: equalise links shared_factors extremes absorb
                biases: bias_correction bias_by_layer bias_by_norms;  rounding: rounded rounding moments
    float32     sensitivity: what int8 hurts;  placed placement placement_costs min_cut: where it pays
    verdict     judging listing
"""
