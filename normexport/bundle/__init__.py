"""Folders from which a server serves a proven model: for Triton, for KServe, or plain files with a script."""
