"""Tests of what the benchmarks count by; they measure nothing."""
