"""`python -m normexport_cli`."""

import contextlib
import os
import sys

with contextlib.suppress(FileNotFoundError):  # the working folder is gone
    if sys.path[0] in ("", os.getcwd()):  # Python puts the working folder first: a torch.py in it would be PyTorch
        sys.path.pop(0)

from normexport_cli.start import main

main()
