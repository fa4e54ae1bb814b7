from pathlib import Path

import pytest

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.report.cost_check import FILE, cost_check, cost_check_figure, cost_check_table
from nasray.report.device_fronts import fronts_per_device
from nasray.report.page import render
from nasray.report.sections import Figures

CHECK = {
    "schema_version": 1,
    "metric": "latency_ms",
    "unit": "ms",
    "device": "a <fast> CPU",
    "kendall_tau": 1.0,
    "spearman_rho": 1.0,
    "mean_absolute_percentage_error": 12.5,
    "median_ratio": 0.88,
    "networks": [
        {"arch_id": "b2", "label": "t<1>", "predicted": 3.0, "measured": 4.0, "spread": 0.2},
        {"arch_id": "a1", "label": "t0", "predicted": 2.0, "measured": 2.0, "spread": None},
    ],
}


def test_the_section_is_in_the_page_when_the_file_is_there(full_run):
    heading = "Measured again after the search"
    assert heading not in render(full_run)
    full_run.write_json(FILE, CHECK)
    page = render(full_run)
    assert heading in page
    assert "12.5 % off on average" in page
    assert "a &lt;fast&gt; CPU" in page
    assert "<fast>" not in page


def test_the_figure_has_the_points_and_the_line_of_equality():
    line, points = cost_check_figure(CHECK).data
    assert (list(points.x), list(points.y)) == ([4.0, 2.0], [3.0, 2.0])
    assert list(line.x) == list(line.y) == [2.0, 4.0]
    assert points.hovertext[0].startswith("t&lt;1&gt;<br>b2")


def test_the_table_is_sorted_and_shows_the_errors():
    text = cost_check_table(CHECK)
    assert text.index("a1") < text.index("b2")
    assert "-25.0 %" in text
    assert "+0.0 %" in text


def test_no_section_without_networks():
    assert cost_check(None, (), Figures()) is None
    assert cost_check({**CHECK, "networks": []}, (), Figures()) is None


def test_ranks_that_are_unknown_are_left_out():
    section = cost_check({**CHECK, "kendall_tau": None, "spearman_rho": None}, (), Figures())
    assert "tau" not in section


def archive_of(rows):
    archive = ParetoArchive(Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="worst")]))
    for number, (accuracy, phone, server) in enumerate(rows):
        metrics = {"accuracy": accuracy, "worst": max(phone, server), "phone": phone, "server": server}
        archive.add(f"t{number}", Architecture.of("s", {"n": number}), Evaluation(metrics=metrics))
    return archive


def test_every_device_has_its_own_front():
    archive = archive_of([(0.9, 3.0, 9.0), (0.8, 9.0, 3.0), (0.7, 4.0, 2.0), (0.6, 5.0, 5.0)])
    fronts = fronts_per_device(archive, ["phone", "server"])
    assert [s.trial_id for s in fronts["phone"]] == ["t0"]
    assert [s.trial_id for s in fronts["server"]] == ["t2", "t1", "t0"]
    assert [s.trial_id for s in fronts_per_device(archive)["worst"]] == ["t2", "t0"]


def test_a_missing_cost_is_said():
    with pytest.raises(ValueError, match="got 'tablet', which 't0' lacks"):
        fronts_per_device(archive_of([(0.9, 1.0, 1.0)]), ["tablet"])
    assert fronts_per_device(archive_of([]), ["phone"]) == {"phone": []}
    with pytest.raises(ValueError, match="`costs` must name a metric for each device"):
        fronts_per_device(archive_of([]), [])


def test_the_file_has_one_name():
    from nasray.hardware.front_check import FILE as WRITTEN

    assert Path(FILE).name == WRITTEN
