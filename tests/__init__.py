"""Tests and what they share, in folders that mirror the library. `make test` runs all, `make check` what is quick."""
