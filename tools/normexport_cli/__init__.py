"""The command line `normexport`: parses, calls the library, prints, exits. One command per file."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m normexport_cli`, which imports this first: Ctrl-C from here on is no traceback
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
