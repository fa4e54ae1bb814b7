from collections.abc import Callable
from typing import Any

from nasray.report.figures import accuracy_figure, thin, trajectory_figure
from nasray.report.frames import cost_names, evaluations_frame, front_rows, search_samples, trajectory_rows

Row = Callable[..., dict[str, Any]]


def test_search_samples_leave_out_failures_and_other_stages(make_evaluation: Row) -> None:
    rows = [make_evaluation(0), make_evaluation(1, status="infeasible"), make_evaluation(2, stage="result")]
    assert search_samples(evaluations_frame(rows))["sample_id"].tolist() == ["s0"]


def test_cost_names_put_known_metrics_first(make_evaluation: Row) -> None:
    frame = evaluations_frame([make_evaluation(0, metrics={"accuracy": 0.5, "area": 1.0, "latency_ms": 2, "macs": 3})])
    assert cost_names(frame) == ["macs", "latency_ms", "area"]


def test_front_rows_are_ordered_by_cost_and_skip_missing_costs(make_evaluation: Row) -> None:
    metrics = [(0.9, 30), (0.5, 10), (0.4, 20), (0.99, None)]
    rows = [make_evaluation(i, metrics={"accuracy": a, "macs": c}) for i, (a, c) in enumerate(metrics)]
    assert front_rows(evaluations_frame(rows), "macs")["sample_id"].tolist() == ["s1", "s0"]


def test_a_repeated_iteration_keeps_its_latest_choice(make_evaluation: Row) -> None:
    rows = [make_evaluation(number, iteration=number // 2, selected=True) for number in range(4)]
    assert trajectory_rows(evaluations_frame(rows))["sample_id"].tolist() == ["s1", "s3"]


def test_accuracy_figure_marks_results_with_shapes_of_their_own(make_evaluation: Row, make_result: Row) -> None:
    frame = evaluations_frame([make_evaluation(number) for number in range(8)])
    results = [make_result("initial"), make_result("macs <= 50%"), make_result("macs <= 25%")]
    figure = accuracy_figure(frame, results)
    assert figure is not None
    symbols = [trace.marker.symbol for trace in figure.data if trace.meta["role"] in ("initial", "found", "path")]
    assert len(set(symbols)) == 4
    initial = next(trace for trace in figure.data if trace.meta["role"] == "initial")
    assert (initial.x, initial.y) == ((2_000_000,), (0.9,))


def test_trajectory_figure_draws_only_the_trials_of_its_cost(make_evaluation: Row) -> None:
    other = make_evaluation(0, trial_id="latency", cost_name="latency_ms", cost=4.0, budget=5.0)
    frame = evaluations_frame([*(make_evaluation(number) for number in range(1, 9)), other])
    figure = trajectory_figure(frame, "latency_ms")
    assert figure is not None
    assert {trace.meta["trial"] for trace in figure.data} == {"latency"}
    assert trajectory_figure(frame, "energy_mj") is None


def test_thin_keeps_rows_from_the_whole_run(make_evaluation: Row) -> None:
    frame = evaluations_frame([make_evaluation(number) for number in range(100)])
    assert thin(frame, 4)["sample_id"].tolist() == ["s0", "s25", "s50", "s75"]
