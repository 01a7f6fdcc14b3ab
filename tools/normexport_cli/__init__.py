"""The command line `normexport`: parses, calls the library, prints, exits. One command per file."""
