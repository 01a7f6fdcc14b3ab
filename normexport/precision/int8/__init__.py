"""int8: calibration, pairs of QuantizeLinear and DequantizeLinear, and the search for what must stay in float32."""
