"""Reasons for which equal outputs would prove nothing: lost state, random numbers, branches that nothing took."""
