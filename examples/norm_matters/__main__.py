"""`python -m examples.norm_matters FIGURE`: run what is missing of a figure; `page` writes tables and plots."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from examples.norm_matters import decay, kinds, page, plots, precision, runs, speed, tables
from normexport.errors import NormExportError, UsageError

FIGURES: dict[str, Any] = {"decay": decay, "kinds": kinds, "precision": precision, "speed": speed}


def run(figure: str, jobs: int) -> None:
    """Run what is missing of a figure, or write the page.

    Raises:
        UsageError: there is no such figure.
        MissingComponent: mlxtend or matplotlib is not installed.
    """
    if figure == "page":
        page.write_tables(tables.all_tables())
        plots.draw_all(page.PLOTS)
    elif figure in FIGURES:
        module = FIGURES[figure]
        runs.run_cases(figure, module.cases(), module.measure, jobs=jobs, tell=typer.echo)
    else:
        raise UsageError(figure, "is no figure", f"choose among {', '.join([*FIGURES, 'page'])}")


def main(
    figure: Annotated[str, typer.Argument(help="decay, kinds, precision, speed, or page.")],
    jobs: Annotated[int, typer.Option(help="Processes of one thread each; 1 for speed.")] = 1,
) -> None:
    """Run what results/ does not have yet of a figure; `page` writes tables and plots."""
    try:
        run(figure, jobs)
    except NormExportError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None


if __name__ == "__main__":
    typer.run(main)
