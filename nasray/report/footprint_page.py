"""The page on the carbon footprint of architecture search: one file, as the report of a run is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nasray.carbon.equivalents import CAR_YEAR_T, HOME_YEAR_T, TABLE_1, cars_driven, homes_powered
from nasray.carbon.fu2021 import PAPER, US_AVERAGE_G_PER_KWH, Factors, carbon_kg, energy_wh
from nasray.carbon.fu2021_figures import MILLION, LifetimeRow, TrainingsRow, figure_3, figure_4, left_out
from nasray.carbon.fu2021_gpus import ASSUMED_GPU
from nasray.carbon.fu2021_training import WHY_INCONSISTENT
from nasray.carbon.nas_costs import SearchMethod, search_cost
from nasray.carbon.nas_costs_published import PUBLISHED_LB, PUBLISHED_METHODS
from nasray.report.footprint_figures import Bar, bar_figure, search_figure
from nasray.report.markup import Html, element, join
from nasray.report.page import html_page
from nasray.report.quantities import MISSING, format_metric
from nasray.report.sections import Figures
from nasray.report.tables import table

TITLE = "Carbon footprint of architecture search"

_SEARCHES = (
    "Searches whose GPU hours are known: CO2 in kg by equations 1 and 2, in lb as NetAdaptV2's CO2 column counts it, "
    "and as printed there; accuracy on ImageNet and MACs of the network found"
)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What the page shows.

    Args:
        added: Methods beside those of the papers.
        own: Factors beside the paper's; None for the paper's alone.
    """

    added: Sequence[SearchMethod] = ()
    own: Factors | None = None

    @property
    def methods(self) -> list[SearchMethod]:
        """All methods, those of the papers first."""
        return [*PUBLISHED_METHODS, *self.added]


def render_footprint(footprint: Footprint) -> str:
    """Return the page as HTML text.

    Source: Fu et al. 2021, Fig. 2 to 4 and Table 1; Yang et al. 2021 (NetAdaptV2), Table 1. Deviation: eq. 1 stands
    beside eq. 3 in Fig. 3 and 4.
    """
    figures = Figures()
    body = join(
        _header(footprint.own),
        element(
            "main",
            _searches(footprint, figures),
            _trainings(footprint, figures),
            _lifetimes(footprint, figures),
            _equivalents(),
            _left_out(footprint),
            id="content",
        ),
    )
    return html_page(title=TITLE, body=body, figures=figures)


def _header(own: Factors | None) -> Html:
    hour_wh = energy_wh(1.0)
    facts = [
        ("Overhead of the data centre (PUE)", f"{PAPER.pue:g}"),
        ("Carbon intensity", f"{PAPER.intensity_g_per_kwh:g} g/kWh"),
        ("Processor per GPU", f"{PAPER.cpu_power_w:g} W"),
        ("An hour of a V100 (300 W)", f"{hour_wh:.2f} Wh, {carbon_kg(hour_wh):.4f} kg"),
    ]
    if own is not None:
        facts.append(("Your factors", f"PUE {own.pue:g}, {own.intensity_g_per_kwh:g} g/kWh"))
    notices = (
        "All figures are estimates from GPU hours and rated power, not measurements.",
        f"The paper's carbon intensity is {PAPER.intensity_g_per_kwh / US_AVERAGE_G_PER_KWH:.2f} times the average of "
        f"the US grid ({US_AVERAGE_G_PER_KWH:.0f} g/kWh).",
        WHY_INCONSISTENT,
    )
    items = element("ul", *(element("li", sentence) for sentence in notices))
    return element(
        "header",
        element("h1", TITLE),
        element("p", "After Fu, Hosseini and Plataniotis 2021, with its factors:", class_="note"),
        element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in facts)),
        element("aside", element("strong", "Please note"), items, class_="notices", aria_label="Notices"),
    )


def _searches(footprint: Footprint, figures: Figures) -> Html:
    own = footprint.own
    heads = ["Search", "GPU hours", "Energy (kWh)", "CO2 (kg)", *(["Yours (kg)"] if own else [])]
    heads += ["CO2 (lb)", "Printed (lb)", "Accuracy", "MACs"]
    rows, drawn, num_added = [], [], 0
    for index, method in enumerate(footprint.methods):
        cost = search_cost(method)
        if cost is None:
            continue
        other = search_cost(method, factors=own) if own else None
        small = [element("small", text) for text in (method.source, method.note) if text]
        cells: list[object] = [
            join(method.name, *small),
            join(f"{cost.gpu_hours:,.6g}", element("small", _gpu(method))),
            f"{cost.energy_wh / 1000:,.1f}",
        ]
        cells += [f"{cost.carbon_kg:,.1f}", *([f"{other.carbon_kg:,.1f}"] if other else []), f"{cost.strubell_lb:,.0f}"]
        cells += [PUBLISHED_LB.get(method.name, MISSING), format_metric("accuracy", method.top1_accuracy)]
        rows.append([*cells, format_metric("macs", method.macs)])
        if method.top1_accuracy is not None:
            drawn.append((method, cost, other))
            num_added += index >= len(PUBLISHED_METHODS)
    return _section(
        "What the searches cost (Fig. 2)",
        _note("The larger a mark, the more multiply-adds (MACs) the network found has. CO2 by equations 1 and 2."),
        figures.place(
            search_figure(drawn, num_added=num_added), "Accuracy against CO2 of the search; tabulated below."
        ),
        table(heads, rows, caption=_SEARCHES),
    )


def _gpu(method: SearchMethod) -> str:
    if method.gpu_type is None:
        return f"{method.power_w:g} W" if method.gpu_power_w else f"{ASSUMED_GPU} assumed"
    return method.gpu_type


def _trainings(footprint: Footprint, figures: Figures) -> Html:
    rows = figure_3(footprint.methods)
    others: list[TrainingsRow | None] = [None] * len(rows)
    if footprint.own:
        others = [*figure_3(footprint.methods, factors=footprint.own)]
    bars = [
        Bar(
            name=row.name,
            carbon_t=row.total_t,
            own_t=other.total_t if other else None,
            note="" if row.search_t is None else f"of which the search: {row.search_t:.2g} t",
        )
        for row, other in zip(rows, others, strict=True)
    ]
    published = [Bar(name=row.name, carbon_t=row.published.published_kg / 1000) for row in rows]
    heads = ["Network", "Search (t)", "Trainings (t)", "Trainings, yours (t)", 'Equation 3 as published ("t")']
    cells = [
        [row.name, MISSING if row.search_t is None else f"{row.search_t:.3f}", f"{row.trainings_t:,.0f}"]
        + ([f"{other.trainings_t:,.0f}"] if other else [])
        + [f"{row.published.published_kg / 1000:.1f}"]
        for row, other in zip(rows, others, strict=True)
    ]
    if not footprint.own:
        del heads[3]
    return _section(
        f"{MILLION:,} trainings on ImageNet (Fig. 3)",
        _note(
            "The paper assumes 250 epochs of 40 minutes for ResNet and of 60 minutes for every searched network. By "
            "equation 1, which knows hours but no FLOPs, searched networks then cost half as much again as ResNet; the "
            "search itself disappears beside either."
        ),
        figures.place(bar_figure(bars, title="t CO2 (eq. 1)"), "CO2 of a million trainings; tabulated below."),
        *_as_published(_published_figure(published, figures)),
        table(heads, cells, caption="A million trainings, by both equations"),
    )


def _published_figure(bars: Sequence[Bar], figures: Figures) -> Html:
    """Place a plot of what equation 3 gives, in a colour that no sound figure has."""
    figure = bar_figure(bars, title='"t CO2" (eq. 3)', series=1)
    return figures.place(figure, "What the paper's equation 3 gives; tabulated below.")


def _lifetimes(footprint: Footprint, figures: Figures) -> Html:
    rows = figure_4()
    others: list[LifetimeRow | None] = [None] * len(rows)
    if footprint.own:
        others = [*figure_4(factors=footprint.own)]
    bars = [
        Bar(name=row.name, carbon_t=row.trainings_t, own_t=other.trainings_t if other else None)
        for row, other in zip(rows, others, strict=True)
    ]
    heads = [
        "Network",
        "Equation 1 (t)",
        "Equation 1, yours (t)",
        'Equation 3 ("t")',
        'Equation 3, printed ("t")',
    ]
    cells = [
        [row.name, _tonnes(row.trainings_t)]
        + ([_tonnes(other.trainings_t)] if other else [])
        + [MISSING if row.published is None else f"{row.published.published_kg / 1000:.1f}", f"{row.printed_t:.1f}"]
        for row, other in zip(rows, others, strict=True)
    ]
    if not footprint.own:
        del heads[2]
    printed = [Bar(name=row.name, carbon_t=row.printed_t) for row in rows]
    return _section(
        "Lifetimes of hand-made networks (Fig. 4)",
        _note("Every paper that cites a network is taken to have trained it 50 times: ResNet 3.6 million times."),
        figures.place(bar_figure(bars, title="t CO2 (eq. 1)"), "CO2 of lifetimes; tabulated below."),
        *_as_published(_published_figure(printed, figures)),
        table(heads, cells, caption="All trainings so far, by both equations; fewest citations first"),
    )


def _equivalents() -> Html:
    rows = []
    for row in TABLE_1:
        name = join(row.name, element("small", row.erratum) if row.erratum else None)
        cars, homes = cars_driven(row.carbon_t), homes_powered(row.carbon_t)
        rows.append([name, f"{row.carbon_t:.1f}", f"{cars:.1f}", f"{row.cars:.1f}", f"{homes:.1f}", f"{row.homes:.1f}"])
    heads = ["Network", "CO2 as published (t)", "Cars for a year", "Printed", "Homes for a year", "Printed"]
    return _section(
        "Equivalents (Table 1)",
        _note(
            f"{CAR_YEAR_T:g} t for a car driven and {HOME_YEAR_T:g} t for a home powered for a year. The tonnes are "
            "those of equation 3, so the equivalents reproduce the paper and say nothing about real cars."
        ),
        table(heads, rows, caption="Published lifetimes in cars driven and homes powered"),
    )


def _left_out(footprint: Footprint) -> Html:
    sentences = left_out(footprint.methods)
    return _section("Left out", element("ul", *(element("li", sentence) for sentence in sentences)))


def _as_published(figure: Html) -> tuple[Html, Html, Html]:
    warning = element("aside", WHY_INCONSISTENT, class_="notices", aria_label="Notice")
    return element("h3", "As published, by equation 3"), warning, figure


def _tonnes(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f}"


def _note(text: str) -> Html:
    return element("p", text, class_="note")


def _section(heading: str, *content: object) -> Html:
    return element("section", element("h2", heading), *content)
