"""`report.html`: one result as one file for a browser, from the JSON that programs read."""

from normexport.reports.page.facts import files_in, known_of, out_of_budget, outputs_out_of_budget, versions
from normexport.reports.page.network import Network, read_network
from normexport.reports.page.plots import draw_plots
from normexport.reports.page.reading import json_of, read_document
from normexport.reports.page.rendering import render
from normexport.reports.page.values import Document

__all__ = [
    "Document",
    "Network",
    "draw_plots",
    "files_in",
    "json_of",
    "known_of",
    "out_of_budget",
    "outputs_out_of_budget",
    "read_document",
    "read_network",
    "render",
    "versions",
]
