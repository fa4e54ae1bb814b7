"""Tables of fronts, what is marked, and over how many evaluations medians go."""

import pytest

from nasray.objectives import Objective
from nasray.report.candidates import Candidates
from nasray.report.fronts import block_size, default_pair, front_table, fronts, marks, objective_pairs, order
from nasray.report.sections import Figures

OBJECTIVES = (Objective(name="accuracy", direction="maximize"), Objective(name="macs"), Objective(name="latency_ms"))


def candidates_of(metrics, objectives=OBJECTIVES):
    rows = [{"arch_id": f"a{n}", "status": "ok", "metrics": own} for n, own in enumerate(metrics)]
    return Candidates(rows=rows, objectives=objectives)


SOME = candidates_of(
    [
        {"accuracy": 0.9, "macs": 3e6, "latency_ms": 2.0},
        {"accuracy": 0.8, "macs": 1e6, "latency_ms": 3.0},
        {"accuracy": 0.7, "macs": 2e6, "latency_ms": 1.0},
    ]
)


def test_quality_is_up_and_the_first_cost_across():
    assert default_pair(SOME) == ("accuracy", "macs")
    assert objective_pairs(SOME) == [("macs", "accuracy"), ("latency_ms", "accuracy"), ("latency_ms", "macs")]


def test_front_table_holds_the_front_of_its_two():
    html = front_table(SOME, ("macs", "accuracy"))
    assert [f">a{n}<" in html for n in range(3)] == [True, True, False]
    assert "The front of Accuracy against MACs: 2 networks" in html
    assert "3.000 M" in html and "80.00 %" in html and "2.000 ms" in html


def test_long_fronts_are_thinned_and_say_so():
    many = candidates_of([{"accuracy": n, "macs": n} for n in range(1000)], OBJECTIVES[:2])
    html = front_table(many, ("macs", "accuracy"))
    assert html.count("<tr>") == 301
    assert "1,000 networks, 300 of them, evenly spread" in html
    assert ">a0<" in html and ">a999<" in html


def test_best_trade_offs_of_two_are_marked_with_their_pair():
    row = {"arch_id": "a1", "metrics": {"accuracy": 0.8}}
    rows = [row | {"network": name} for name in ("best accuracy", "trade-off, MACs", "best trade-off")]
    found = marks({}, SOME, rows)
    assert [(mark["kind"], mark["pair"]) for mark in found] == [("trade-off", ["accuracy", "macs"])]


def test_results_are_marked_by_the_search_accuracy():
    results = [{"label": "initial", "accuracy_supernet": 0.5, "macs": 7, "arch_id": "x", "latency_ms": None}]
    (mark,) = marks({"results": results}, SOME, [])
    assert (mark["kind"], mark["metrics"]) == ("initial", {"macs": 7, "accuracy": 0.5})


@pytest.mark.parametrize(
    ("method", "population_size", "num_rows", "expected"),
    [
        ("optuna-nsga2", 20, 400, 20),
        ("optuna-nsga2", None, 400, 50),
        ("optuna-nsga2", 20, 10_000, 500),
        ("evolution", 20, 400, 20),
        ("evolution", 20, 3, 5),
    ],
)
def test_medians_go_over_generations_where_there_are_any(method, population_size, num_rows, expected):
    run = {"method": method, "configuration": {"population_size": population_size}}
    size, meaning = block_size(run, num_rows)
    assert size == expected
    assert ("generation" in meaning) == (method == "optuna-nsga2" and num_rows == 400)


def test_candidates_without_two_figures_have_no_plot():
    figures = Figures()
    assert "there is no front to draw" in fronts(candidates_of([{"accuracy": 0.5}]), figures)
    assert "No evaluations were recorded" in fronts(candidates_of([]), figures)
    assert order(candidates_of([]), {}, figures) is None
