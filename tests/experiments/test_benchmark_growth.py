import importlib
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def curve(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return importlib.import_module("_growth_curve")


def test_growth_is_that_of_the_first_and_the_last_tenth(curve):
    # Twenty windows of 50; each evaluation takes as many ms as its window's number, and leaves 10 kB.
    samples = [curve.Sample(evaluations=1, wall_s=0.0, cpu_s=0.0, work_s=0.0, own_mb=300.0, uss_mb=400.0)]
    for window in range(1, 21):
        last, count = samples[-1], 50 * window
        seconds = window * (count - last.evaluations) / 1e3
        samples.append(
            curve.Sample(
                evaluations=count,
                wall_s=last.wall_s + seconds,
                cpu_s=last.cpu_s + seconds / 2 + seconds / 10,
                work_s=last.work_s + seconds / 10,
                own_mb=300.0 + count / 100,
                uss_mb=400.0 - window,
            )
        )
    figures = curve.growth(samples)
    assert figures["start_ms"] == pytest.approx((49 * 1 + 50 * 2) / 99)
    assert figures["end_ms"] == pytest.approx(19.5)
    assert figures["end_cpu_ms"] == pytest.approx(9.75)
    assert figures["cpu_ratio"] == pytest.approx(figures["ratio"])
    assert figures["work_ratio"] == pytest.approx(1.0)  # the machine became slower, not the search
    assert figures["growth_mb"] == pytest.approx(10.0)
    assert figures["uss_growth_mb"] == pytest.approx(-20.0)


def test_curve_takes_a_sample_at_the_first_evaluation_and_at_each_window(curve, capsys):
    taken = curve.Curve(window=3)
    for _ in range(8):
        taken(None, None)
    assert [sample.evaluations for sample in taken.samples] == [1, 3, 6]
    assert all(sample.own_mb > 1 for sample in taken.samples)
    times = [(sample.wall_s, sample.cpu_s) for sample in taken.samples]
    assert times == sorted(times)
    assert len(capsys.readouterr().out.splitlines()) == 2
