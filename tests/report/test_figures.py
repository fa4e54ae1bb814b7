from collections.abc import Callable
from typing import Any

from nasray.report.figures import trajectory_figure
from nasray.report.frames import cost_names, evaluations_frame, search_samples, trajectory_rows

Row = Callable[..., dict[str, Any]]


def test_search_samples_leave_out_failures_and_other_stages(make_evaluation: Row) -> None:
    rows = [make_evaluation(0), make_evaluation(1, status="infeasible"), make_evaluation(2, stage="result")]
    assert search_samples(evaluations_frame(rows))["sample_id"].tolist() == ["s0"]


def test_cost_names_put_known_metrics_first(make_evaluation: Row) -> None:
    frame = evaluations_frame([make_evaluation(0, metrics={"accuracy": 0.5, "area": 1.0, "latency_ms": 2, "macs": 3})])
    assert cost_names(frame) == ["macs", "latency_ms", "area"]


def test_a_repeated_iteration_keeps_its_latest_choice(make_evaluation: Row) -> None:
    rows = [make_evaluation(number, iteration=number // 2, selected=True) for number in range(4)]
    assert trajectory_rows(evaluations_frame(rows))["sample_id"].tolist() == ["s1", "s3"]


def test_trajectory_figure_draws_only_the_trials_of_its_cost(make_evaluation: Row) -> None:
    other = make_evaluation(0, trial_id="latency", cost_name="latency_ms", cost=4.0, budget=5.0)
    frame = evaluations_frame([*(make_evaluation(number) for number in range(1, 9)), other])
    figure = trajectory_figure(frame, "latency_ms")
    assert figure is not None
    assert {trace.meta["trial"] for trace in figure.data} == {"latency"}
    assert trajectory_figure(frame, "energy_mj") is None
