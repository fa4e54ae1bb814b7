import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from nasray.evaluation import Evaluation
from nasray.spaces.mobile_networks import mobile_space
from nasray.strategies.random_at_cost import RandomAtCost

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
WITH_DATA = ("benchmark_search", "benchmark_ranking", "benchmark_ordered_dropout")


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a benchmark's `main` in this process; returns exit status, output and errors."""
    monkeypatch.syspath_prepend(EXPERIMENTS)
    monkeypatch.delenv("NASRAY_DATA", raising=False)

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        try:
            status = importlib.import_module(name).main() or 0
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return call


def test_benchmark_models_agrees_with_published_figures_and_with_torch(tmp_path):
    file = tmp_path / "models.json"
    command = [sys.executable, EXPERIMENTS / "benchmark_models.py", "--json", file]
    environment = os.environ | {"PYTHONPATH": str(EXPERIMENTS.parent), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert re.search(r"(\d+) of \1 networks agree exactly", result.stdout)
    rows = json.loads(file.read_text())
    assert len(rows) == 12
    for row in rows:
        assert row["counter_macs"] == row["macs"] and row["counter_parameters"] == row["parameters"]
        assert row["published_parameters"] in (None, row["parameters"])
        assert row["published_macs"] is None or row["macs"] == pytest.approx(row["published_macs"], rel=0.01)


def check_one_sentence(outcome, part):
    status, output, errors = outcome
    assert (status, output, errors.count("\n")) == (2, "", 1)
    assert part in errors


@pytest.mark.parametrize("name", WITH_DATA)
def test_benchmark_without_data_says_what_to_pass(run, name):
    check_one_sentence(run(name), "pass --data PATH")


@pytest.mark.parametrize("name", WITH_DATA)
def test_benchmark_with_a_missing_folder_names_it(run, name, tmp_path):
    check_one_sentence(run(name, "--data", tmp_path / "absent"), "absent")


@pytest.mark.parametrize(
    ("name", "arguments", "part"),
    [
        ("benchmark_models", ["--network", "resnet-50"], "must be one of mobilenet-v1"),
        ("benchmark_supernet", ["--num-subnets", 40], "half of the batch"),
        ("benchmark_supernet", ["--turns", "many"], "must be a whole number of at least 2"),
        ("benchmark_search", ["--targets", 60], "must lie between 0 and 1"),
        ("benchmark_ranking", ["--share", 1.5], "must lie between 0 and 1"),
        ("benchmark_ordered_dropout", ["--target", 0], "must lie between 0 and 1"),
    ],
)
def test_benchmark_answers_wrong_input_by_one_sentence(run, name, arguments, part):
    check_one_sentence(run(name, *arguments), part)


def test_kendall_tau_is_scipys(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    ranking = importlib.import_module("benchmark_ranking")
    generator = np.random.default_rng(0)
    for _ in range(20):
        x, y = generator.integers(6, size=(2, 12)).astype(float)
        assert ranking.kendall_tau(x, y) == pytest.approx(kendalltau(x, y).statistic)
    assert ranking.kendall_tau(x, x) == pytest.approx(1)
    assert ranking.kendall_tau(x, -x) == pytest.approx(-1)


def test_search_evaluates_each_architecture_once(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    benchmark = importlib.import_module("benchmark_search")
    space = mobile_space("mobile-8", num_classes=10)
    calls = []

    def evaluator(architecture):
        calls.append(architecture)
        return Evaluation(metrics={"accuracy": 0.5, "loss": 1.0})

    cached = benchmark.CachedEvaluator(evaluator)
    for _ in range(2):
        strategy = RandomAtCost(
            space,
            lambda architecture: space.plan(architecture).macs,
            target=300_000,
            num_samples=5,
            generator=np.random.default_rng(0),
        )
        assert benchmark.search(strategy, cached) == 5
    assert len(calls) == len(cached.results) == 5


def test_benchmark_of_a_darts_step_compares_equal_numbers(tmp_path):
    file = tmp_path / "step.json"
    options = ["--threads", 1, "--layers", 3, "--channels", 4, "--resolution", 8, "--batch-size", 4]
    command = [sys.executable, EXPERIMENTS / "benchmark_darts_step.py", *options, "--turns", 2, "--warm-up", 1]
    environment = os.environ | {"PYTHONPATH": str(EXPERIMENTS.parent), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*map(str, command), "--json", str(file)], capture_output=True, text=True, check=True, env=environment
    )
    assert "nasray" in result.stdout
    assert json.loads(file.read_text())
