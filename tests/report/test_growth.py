"""Hypervolume over evaluations and CO2."""

import json

import numpy as np
import pytest

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.report.candidates import Candidates
from nasray.report.growth import carbon_spent, growth
from nasray.report.growth_section import growth_section
from nasray.report.sections import Figures

OBJECTIVES = (Objective(name="accuracy", direction="maximize"), Objective(name="macs"))


def candidates_of(count, *, objectives=OBJECTIVES, seed=0, **more):
    values = np.random.default_rng(seed).random((count, len(objectives)))
    rows = [
        {
            "arch_id": f"a{n}",
            "status": "failed" if n % 7 == 3 else "ok",
            "metrics": {o.name: float(v) for o, v in zip(objectives, own, strict=True)} | more,
        }
        for n, own in enumerate(values)
    ]
    return Candidates(rows=rows, objectives=tuple(objectives))


@pytest.mark.parametrize("count", [2, 50, 500])
def test_curve_is_that_of_the_archive(count):
    candidates = candidates_of(count)
    archive = ParetoArchive(Pareto(OBJECTIVES))
    for number, row in enumerate(candidates.rows):
        reason = None if row["status"] == "ok" else "?"
        evaluation = Evaluation(status=row["status"], reason=reason, metrics=row["metrics"])
        archive.add(str(number), Architecture.of("s", {"n": number}), evaluation)
    history = dict(archive.hypervolume_over_time())
    found = growth(candidates)
    assert found.evaluations[0] == 1 and found.evaluations[-1] == count
    assert len(found.evaluations) <= 201
    for evaluations, volume in zip(found.evaluations, found.hypervolume, strict=True):
        told = [volume for number, volume in history.items() if number <= evaluations]
        assert volume == pytest.approx(told[-1] if told else 0.0)
    assert found.hypervolume[-1] == pytest.approx(archive.hypervolume())
    assert found.front[-1] == len(archive.front)
    assert 0 <= found.shares[0] <= found.shares[-1] <= 1


def test_reference_point_is_the_worst_of_each_objective():
    found = growth(candidates_of(50))
    ok = [row["metrics"] for row in candidates_of(50).rows if row["status"] == "ok"]
    assert found.reference_point == {
        "accuracy": min(metrics["accuracy"] for metrics in ok),
        "macs": max(metrics["macs"] for metrics in ok),
    }


def test_no_curve_without_two_objectives_or_a_volume():
    assert growth(candidates_of(50, objectives=OBJECTIVES[:1])) is None
    assert growth(candidates_of(1)) is None
    same = [{"arch_id": "a", "status": "ok", "metrics": {"accuracy": 0.5, "macs": 3.0}}] * 5
    assert growth(Candidates(rows=same, objectives=OBJECTIVES)) is None


def test_metered_carbon_adds_up_and_unknown_is_said():
    candidates = candidates_of(4, carbon_g=2.0)
    candidates.rows[1]["metrics"].pop("carbon_g")
    spent = carbon_spent(candidates, None)
    assert spent.total_g.tolist() == [2, 2, 4, 6]
    assert "1 of 4 have no figure" in spent.explanation


@pytest.mark.parametrize(("seconds", "expected"), [((1, 3), [2.5, 10]), ((0, 3), [5, 10])])
def test_carbon_of_the_search_is_shared_out(seconds, expected):
    candidates = candidates_of(2)
    for row, own in zip(candidates.rows, seconds, strict=True):
        row["seconds"] = own
    account = {"stages": {"search": {"carbon_g": 10.0, "quality": "estimated"}}}
    assert carbon_spent(candidates, account).total_g.tolist() == expected


@pytest.mark.parametrize("account", [None, {}, {"stages": {"search": {"carbon_g": None, "quality": "unavailable"}}}])
def test_unknown_carbon_is_no_zero(account):
    spent = carbon_spent(candidates_of(3), account)
    assert spent.total_g is None
    figures = Figures()
    html = growth_section(candidates_of(3), account, figures)
    assert "CO2 of the search is unknown" in html
    assert len(figures.drawn) == 1
    assert "&lt;" not in json.dumps(figures.drawn)
