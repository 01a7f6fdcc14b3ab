"""`python -m normexport_cli`."""

from normexport_cli.start import main

main()
