"""int8 by several tools on the same networks, calibrated on the same samples: what `int8_rivals.py` consists of."""
