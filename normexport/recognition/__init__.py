"""Live norms in ordinary operators: found by what they compute, proven in float64, made one operator each.

`fold_recognised(model)` is what the verbs call in place of `folding.fold`. It stands above the runtimes because the
float64 interpreter is its witness: `operators.py` says what a norm may be written with, `flow.py` cuts the sub-graphs
out, `trial.py` runs one on numbers, `behaviour.py` and `statistic.py` read a norm from what comes out, `proof.py` holds
it against `norms.reference`, `places.py` looks for what trials seldom meet, and `recognise.py` puts the operator in the
graph.
"""

from __future__ import annotations

from normexport.recognition.recognise import Recognition, fold_recognised, recognise

__all__ = ["Recognition", "fold_recognised", "recognise"]
