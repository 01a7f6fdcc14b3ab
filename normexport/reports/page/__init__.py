"""`report.html`: one result as one file for a browser, from the JSON that programs read."""

from normexport.reports.page.facts import files_in, known_of, versions
from normexport.reports.page.network import Network, read_network
from normexport.reports.page.reading import json_of, read_document
from normexport.reports.page.render import render
from normexport.reports.page.values import Document

__all__ = [
    "Document",
    "Network",
    "files_in",
    "json_of",
    "known_of",
    "read_document",
    "read_network",
    "render",
    "versions",
]
