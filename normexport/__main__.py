"""`python -m normexport`: the command line, under the name of the library."""

from __future__ import annotations

from runpy import run_module

if __name__ == "__main__":
    run_module("normexport_cli", run_name="__main__", alter_sys=True)
