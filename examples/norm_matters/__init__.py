"""The figures of "Norm matters" (Hoffer et al. 2018) again, small: `python -m examples.norm_matters FIGURE`.

`images.py`, `networks.py` and `training.py` are what all figures train; `decay.py`, `kinds.py`, `precision.py` and
`speed.py` are the figures, each a list of cases and what is measured of one; `runs.py` runs them and keeps the results
in `results/`; `tables.py`, `plots.py` and `page.py` write them into docs/norm-matters.md.
"""
