"""The benchmark of reports in short."""

import json
import sys
from pathlib import Path

import pytest

from nasray.carbon.ledger import EnergyLedger

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    return __import__("benchmark_report")


def test_figures_are_told_without_a_browser(benchmark, monkeypatch, tmp_path, capsys):
    file = tmp_path / "report.json"
    monkeypatch.setattr(benchmark, "find_browser", lambda: None)
    options = ["--evaluations", "60", "--repeats", "1", "--keep", tmp_path / "run", "--json", file]
    monkeypatch.setattr(sys, "argv", ["benchmark_report.py", *map(str, options)])
    benchmark.main()
    assert "no Chromium to load it" in capsys.readouterr().out
    figures = json.loads(file.read_text())
    assert figures["load_s"] is None and figures["write_s"] > 0
    assert figures["size_bytes"] == (tmp_path / "run" / "report.html").stat().st_size


def test_made_up_run_is_one_that_nasray_could_have_written(benchmark, tmp_path):
    run = benchmark.make_run(tmp_path / "run", 80)
    rows = run.evaluations()
    assert len(rows) == 80 and {"ok", "failed"} <= {row["status"] for row in rows}
    ledger = EnergyLedger.of_folder(run.path)
    ledger.check()
    energies = [row["metrics"]["energy_j"] for row in rows]
    assert ledger.energy_j == pytest.approx(sum(energies))
