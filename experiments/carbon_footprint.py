"""What architecture search emits, after Fu et al. 2021: its figures 2 to 4 and Table 1, and NetAdaptV2's CO2 column.

Everything is computed from GPU hours and rated power; no search is run and nothing is fetched. Equation 3 of the paper
has units that don't work out: what it gives is shown as published and flagged, beside the sound figures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nasray.carbon.equivalents import TABLE_1, cars_driven, homes_powered
from nasray.carbon.fu2021 import PAPER, Factors
from nasray.carbon.fu2021_figures import figure_3, figure_4, left_out
from nasray.carbon.fu2021_training import WHY_INCONSISTENT
from nasray.carbon.nas_costs import SearchMethod, read_methods, search_cost
from nasray.carbon.nas_costs_published import PUBLISHED_LB, PUBLISHED_METHODS
from nasray.report.footprint_page import Footprint, render_footprint

Option = typer.Option
_UNKNOWN = "-"


def main(
    methods: Annotated[
        Path | None,
        Option(
            help="CSV file of more searches: columns name, gpu_hours, source, and any of gpu_type, gpu_power_w (W), "
            "top1_accuracy (0 to 1, on ImageNet), macs, note."
        ),
    ] = None,
    output: Annotated[Path, Option(help="The page to write.")] = Path("carbon_footprint.html"),
    pue: Annotated[
        float | None, Option(help=f"Overhead of your data centre, shown next to the paper's {PAPER.pue:g}.")
    ] = None,
    intensity: Annotated[
        float | None,
        Option(help=f"Your CO2 in g/kWh, shown next to the paper's {PAPER.intensity_g_per_kwh:g}."),
    ] = None,
    json_file: Annotated[
        Path | None, Option("--json", help="Write the searches here as JSON, with your factors where they are given.")
    ] = None,
) -> None:
    """Print what searches and trainings emit, and write a page with the figures."""
    for name, path in (("output", output), ("json", json_file)):
        if path and not path.resolve().parent.is_dir():
            raise ValueError(f"`{name}` must name a file in a folder that exists, got {path}. Make the folder first.")
    added = read_methods(methods, known=PUBLISHED_METHODS) if methods else []
    footprint = Footprint(added=added, own=own_factors(pue, intensity))
    console = Console()
    for table in tables(footprint):
        console.print(table)
    for sentence in (WHY_INCONSISTENT, *left_out(footprint.methods)):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    output.write_text(render_footprint(footprint), encoding="utf-8")
    console.print(f"Page: {output}", markup=False, highlight=False, soft_wrap=True)
    if json_file:
        factors = footprint.own or PAPER
        costs = [search_cost(method, factors=factors) for method in footprint.methods]
        json_file.write_text(json.dumps([asdict(cost) for cost in costs if cost], indent=1) + "\n", encoding="utf-8")


def own_factors(pue: float | None, intensity: float | None) -> Factors | None:
    """Return the factors that the command line gives, the paper's for those that it doesn't; None without any."""
    if pue is None and intensity is None:
        return None
    return Factors(
        pue=PAPER.pue if pue is None else pue,
        intensity_g_per_kwh=PAPER.intensity_g_per_kwh if intensity is None else intensity,
    )


def tables(footprint: Footprint) -> list[Table]:
    """Return the tables to print."""
    return [
        searches_table(footprint.methods, footprint.own),
        trainings_table(footprint),
        lifetimes_table(footprint.own),
        equivalents_table(),
    ]


def searches_table(methods: Sequence[SearchMethod], own: Factors | None) -> Table:
    """Return the cost of each search whose GPU hours are known."""
    heads = ["Search", "GPU hours", "kWh", "kg CO2", *(["kg, yours"] if own else []), "lb CO2", "printed"]
    table = _table("Searches: equations 1 and 2, and NetAdaptV2's CO2 column", heads)
    for method in methods:
        cost = search_cost(method)
        other = search_cost(method, factors=own) if own else None
        if cost:
            cells = [f"{cost.gpu_hours:,.6g}", f"{cost.energy_wh / 1000:,.1f}", f"{cost.carbon_kg:,.1f}"]
            cells += [f"{other.carbon_kg:,.1f}"] if other else []
            table.add_row(
                escape(method.name), *cells, f"{cost.strubell_lb:,.0f}", str(PUBLISHED_LB.get(method.name, _UNKNOWN))
            )
    return table


def trainings_table(footprint: Footprint) -> Table:
    """Return Fig. 3: a million trainings."""
    own = footprint.own
    heads = ["Network", "Search t", "Trainings t", *(["Trainings t, yours"] if own else []), "eq. 3 (flagged)"]
    table = _table("A million trainings (Fig. 3)", heads)
    others = figure_3(footprint.methods, factors=own or PAPER)
    for row, other in zip(figure_3(footprint.methods), others, strict=True):
        search = _UNKNOWN if row.search_t is None else f"{row.search_t:.3f}"
        cells = [search, f"{row.trainings_t:,.0f}", *([f"{other.trainings_t:,.0f}"] if own else [])]
        table.add_row(escape(row.name), *cells, f"{row.published.published_kg / 1000:.1f}")
    return table


def lifetimes_table(own: Factors | None) -> Table:
    """Return Fig. 4: all trainings of the hand-made networks."""
    heads = ["Network", "CO2 t", *(["CO2 t, yours"] if own else []), "eq. 3 (flagged)", "eq. 3 printed"]
    table = _table("Lifetimes of hand-made networks (Fig. 4)", heads)
    for row, other in zip(figure_4(), figure_4(factors=own or PAPER), strict=True):
        sound = [entry.trainings_t for entry in ((row, other) if own else (row,))]
        published = _UNKNOWN if row.published is None else f"{row.published.published_kg / 1000:.1f}"
        cells = [_UNKNOWN if value is None else f"{value:,.0f}" for value in sound]
        table.add_row(row.name, *cells, published, f"{row.printed_t:.1f}")
    return table


def equivalents_table() -> Table:
    """Return Table 1 with what is printed there."""
    heads = ["Network", "eq. 3 printed", "Cars", "printed", "Homes", "printed", "Erratum"]
    table = _table("Equivalents for a year (Table 1)", heads)
    for row in TABLE_1:
        cars, homes = f"{cars_driven(row.carbon_t):.1f}", f"{homes_powered(row.carbon_t):.1f}"
        cells = [f"{row.carbon_t:.1f}", cars, f"{row.cars:.1f}", homes, f"{row.homes:.1f}"]
        table.add_row(row.name, *cells, "cars: 39.2, not 39.8" if row.erratum else "")
    return table


def _table(title: str, heads: Sequence[str]) -> Table:
    table = Table(title=title)
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left", overflow="fold")
    return table


if __name__ == "__main__":
    from nasray.tune.cli_errors import exit_status

    sys.exit(exit_status(main))
