"""`normexport dialects`."""

from __future__ import annotations

from normexport_cli.groups import grouped
from normexport_cli.options import OutputOptions
from normexport_cli.screen import print_json, result_console, working


@grouped
def dialects(shown: OutputOptions) -> None:
    """List how norms are stored by the projects that are known: the values of --dialect.

    A checkpoint that only one of them fits is read so by itself; --dialect decides where several fit.

    \b
      normexport dialects
      normexport inspect weights.pth --dialect lp-norm
    """
    with working("Looking", shown):
        from normexport.checkpoint.dialects import dialects as registered
        from normexport.reports.dialects_table import kinds_with_operators

        known, kinds = registered(), kinds_with_operators()
    if shown.json:
        print_json({"dialects": known, "kinds": kinds})
        return
    from normexport.reports.dialects_table import show_dialects

    show_dialects(result_console(), known, kinds)
