"""The version of this library, for whoever writes it into a file."""

__version__ = "0.2.0"
