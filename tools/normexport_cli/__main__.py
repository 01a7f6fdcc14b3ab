"""`python -m normexport_cli`."""

from normexport_cli.app import main

main()
