"""The evolution program as a person runs it."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nasray.cli import main as nasray_command
from nasray.tune.cli_errors import exit_status
from nasray.tune.search_result import SearchResult

PROGRAM = Path(__file__).parents[2] / "experiments" / "evolve_cifar.py"


def run(*options):
    spec = importlib.util.spec_from_file_location("evolve_cifar", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return exit_status(module.main, [str(option) for option in options])


def rows_of(run_dir):
    path = run_dir / "evaluations.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.ray
@pytest.mark.slow
def test_it_finds_a_front_and_an_interrupted_run_goes_on(tmp_path, capsys):
    run_dir, file = tmp_path / "run", tmp_path / "rows.json"
    options = ["--evaluations", "12", "--epochs", "2", "--population-size", "5", "--run-dir", str(run_dir)]
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[1]), "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), *options], env=environment, stdout=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while len(rows_of(run_dir)) < 3 and process.poll() is None and time.monotonic() < end:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert f"--resume --run-dir {run_dir}" in " ".join(output.split())
    before = rows_of(run_dir)
    assert 3 <= len(before) < 12
    assert nasray_command(["front", str(run_dir), "--json"]) == 0  # also of what goes on
    assert {"accuracy", "front"} <= json.loads(capsys.readouterr().out)[0].keys()
    assert SearchResult.open(run_dir).archive.num_evaluations == len(before)
    assert run(*options, "--resume", "--json", file, "--no-progress") == 0
    rows = rows_of(run_dir)
    assert rows[: len(before)] == before
    assert len({row["arch_id"] for row in rows}) == len(rows) == 12
    table = json.loads(file.read_text())
    assert table[0]["network"] == "best accuracy"
    best = max(row["metrics"]["accuracy"] for row in rows if row["status"] == "ok")
    assert table[0]["metrics"]["accuracy"] == best
    assert (run_dir / "report.html").exists()
    assert json.loads((run_dir / "run.json").read_text())["status"] == "done"
    said = capsys.readouterr().out
    assert "on the front of 12 evaluations" in said and "Bill of the whole run, what is done included" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--constraint", "latency<5"], "must read like latency_ms<=5"),
        (["--constraint", "latency_ms<=5"], "must be one of accuracy"),
        (["--resume"], "needs the run's folder"),
        (["--dry-run", "--run-dir", __file__], "cannot be written (Not a directory)"),
        (["--dry-run", "--run-dir", str(Path(__file__).parent)], "must be new or empty"),
        (["--dry-run", "--json", str(Path(__file__).parent)], "must name a file that can be written"),
        (["--data", "/nowhere"], "must be a folder"),
        (["--json", "/nowhere/x.json"], "Make the folder first"),
        (["--population-size", "1"], "population-size"),
        (["--quality-weight", "nan"], "`quality-weight` must be a finite number"),
        (["--timeout", "0"], "`timeout` must be positive"),
        (["--seed", "-1"], "--seed"),
        (["--place", "Atlantis"], "`place` must be a country"),
        (["--pue", "0.9"], "`pue` must be"),
        (["--budget-kwh", "0"], "`budget-kwh` must be a positive number"),
        (["--max-train", "0"], "--max-train"),
    ],
)
def test_wrong_input_ends_in_one_sentence_and_status_2(options, message, capsys):
    assert run(*options) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_dry_run_says_what_it_would_do_and_leaves_nothing(tmp_path, capsys):
    assert run("--dry-run", "--run-dir", tmp_path / "run", "--constraint", "parameters<=1e5") == 0
    said = capsys.readouterr().out
    assert "200 candidates, maximize accuracy" in said
    assert "Bill before the search" in said and "kg CO2e" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.ray
@pytest.mark.slow
def test_carbon_can_be_an_objective_and_a_price_and_a_budget_ends_the_search(tmp_path, capsys):
    run_dir = tmp_path / "run"
    options = ["--evaluations", "500", "--epochs", "1", "--population-size", "4", "--minimize", "lifetime_carbon_g"]
    options += ["--carbon-weight", "0.01", "--inferences", "1e6", "--budget-hours", str(40 / 3600), "--place", "NOR"]
    assert run(*options, "--run-dir", run_dir, "--no-progress") == 0
    said = capsys.readouterr().out
    assert "price 0.01 per" in said and "so it will be ended early" in said and "Spent: " in said
    rows = rows_of(run_dir)
    assert 1 <= len(rows) < 500
    for row in rows:
        if row["status"] == "ok":
            metrics = row["metrics"]
            assert metrics["lifetime_carbon_g"] > metrics["carbon_g"] > 0
            assert metrics["carbon_g"] == pytest.approx(metrics["energy_j"] / 3.6e6 * 30.08, rel=0.2)
    record = json.loads((run_dir / "run.json").read_text())
    assert record["status"] == "done"
    assert any("ended by its budget" in notice for notice in record["notices"])
    assert record["bill"]["total"]["evaluations"] == 500
    assert (run_dir / "energy.json").exists() and (run_dir / "emissions.csv").exists()
    assert "Energy and CO2" in (run_dir / "report.html").read_text()
