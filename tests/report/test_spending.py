"""The bill beside what was spent, lifetimes and break-even."""

import re

import pytest

from nasray.report.sections import Figures
from nasray.report.spending import lifetimes, spending

BILL = {
    "stages": [
        {"name": "search", "evaluations": 40, "hours": 0.25, "energy_j": 3.6e6, "carbon_g": 500.0},
        {"name": "final", "evaluations": 0, "hours": 0.25, "energy_j": None, "carbon_g": None},
    ],
    "total": {"name": "total", "evaluations": 40, "hours": 0.5, "energy_j": None, "carbon_g": None},
    "calibration": "from 3 s",
}
ACCOUNT = {
    "hours": 1.0,
    "stages": {
        "search": {"energy_j": 1.8e6, "carbon_g": 250.0},
        "final training": {"energy_j": 3.6e6, "carbon_g": 500.0},
    },
}
ROWS = [
    {"label": "initial", "energy_mj": 10.0, "energy_quality": "measured"},
    {"label": "half", "energy_mj": 4.0, "energy_quality": "estimated"},
    {"label": "worse", "energy_mj": 12.0, "energy_quality": "estimated"},
    {"label": "unknown"},
]


def cells_of(html, name):
    """The cells of the bill's row of a stage."""
    row = next(row for row in html.split("<tr>") if re.search(f'scope="row">{name}<', row))
    return re.findall(r"<td[^>]*><span>([^<]*)", row)


def test_bill_stands_beside_what_was_spent():
    run = {"bill": BILL, "stages": [{"name": "search", "seconds": 60}, {"name": "final", "seconds": 30}]}
    html = spending(ACCOUNT, run, Figures())
    assert "40 evaluations" in html and "50.0 % of announced" in html
    assert cells_of(html, "final")[:4] == ["15 min 0 s", "30 s", "\N{EN DASH}", "1 kWh"]
    assert "final training" not in html  # the bill calls it final
    assert "1.5 kWh" in html and "750 g CO2e" in html


def test_break_even_is_where_what_was_saved_is_what_was_spent():
    points = lifetimes(5.4e6, ROWS)
    assert [(point.found.network, point.outcome) for point in points] == [("half", "after"), ("worse", "never")]
    assert points[0].uses == pytest.approx(5.4e6 / 6e-3)


def test_lifetime_is_drawn_where_energies_are_known():
    figures = Figures()
    html = spending(ACCOUNT, {"results": ROWS, "break_even": ["It has paid."]}, figures)
    assert "It has paid." in html and "after 900,000,000 inferences" in html and "never" in html
    names = [trace["name"] for trace in figures.drawn[0]["data"]]
    assert names == ["initial", "half, with its search", "half: break-even", "worse, with its search"]
    initial, half, crossing, _ = figures.drawn[0]["data"]
    uses = crossing["x"][0]
    assert min(initial["x"]) < uses < max(initial["x"])
    assert (half["y"][0] > initial["y"][0]) and (half["y"][-1] < initial["y"][-1])


def test_nothing_is_made_up_without_energies():
    figures = Figures()
    assert spending(None, {}, figures) is None
    assert spending(None, {"results": ROWS}, figures) is None
    assert lifetimes(1.0, [{"label": "initial"}, *ROWS[1:]]) == []
    assert figures.drawn == []
