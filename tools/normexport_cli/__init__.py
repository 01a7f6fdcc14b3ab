"""The command line `normexport`: parses, calls the library, prints, exits. One command per file."""

# Built in: `signal` itself takes milliseconds, in which Ctrl-C would be a traceback. It has no stubs.
import _signal  # type: ignore[import-not-found]
import sys

if sys.argv[:1] == ["-m"] and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # `python -m normexport_cli`, which imports this first
