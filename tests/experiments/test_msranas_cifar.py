"""The MS-RANAS program as a person runs it: whole, killed and resumed, and with wrong input."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from nasray.models.anytime_export import load_exits, load_predictor
from nasray.spaces.genotype import Genotype
from nasray.tune.cli_errors import exit_status

PROGRAM = Path(__file__).parents[2] / "experiments" / "msranas_cifar.py"
SHORT = ["--layers", "4", "--channels", "4", "--epochs", "5", "--final-epochs", "1", "--random", "1", "--exits", "2"]
SHORT += ["--cost-weight", "0.5", "--cutout", "2"]


def start(run_dir, *options):
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[1]), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(PROGRAM), "--run-dir", str(run_dir), *SHORT, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process, timeout_s=400):
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def main(*options):
    spec = importlib.util.spec_from_file_location("msranas_cifar", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return exit_status(module.main, [str(option) for option in options])


def wait_for(condition, process, timeout_s=240):
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert process.poll() is None, "the program ended too early"
        assert time.monotonic() < end, "the program did not get there in time"
        time.sleep(0.05)
    return found


def trial_process(process, name):
    """The process of a trial of the program, or None."""
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any(name in part for part in child.cmdline()[:1]):
                return child
        except psutil.Error:
            continue
    return None


def outcome(results):
    """All of a run that does not depend on time: genotypes, losses of every epoch, accuracies of every exit."""
    searches = [(search["name"], search["genotype"], search["history"]) for search in results["searches"]]
    networks = [(row["name"], [exit["test_accuracy"] for exit in row["exits"]]) for row in results["networks"]]
    return searches, networks


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without a break, and what it said."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    status, out, err = finish(start(run_dir))
    assert status == 0, err
    return run_dir, out, json.loads((run_dir / "anytime.json").read_text())


@pytest.mark.ray
@pytest.mark.slow
def test_it_ends_with_networks_rivals_exports_and_a_report(whole):
    run_dir, out, results = whole
    assert "Bill before the search" in out and "Found minus random architectures" in out and "Spent: " in out
    assert [row["group"] for row in results["networks"]] == ["found", "random", "msdnet"]
    (search,) = results["searches"]
    assert [epoch["epoch"] for epoch in search["history"]] == list(range(1, 6))
    assert all(epoch["expected_macs"] > 0 for epoch in search["history"])
    found, random, msdnet = results["networks"]
    assert Genotype.from_json(found["genotype"]) == Genotype.from_json(search["genotype"])
    assert random["exits"][-1]["macs"] == pytest.approx(found["exits"][-1]["macs"], rel=0.06)
    assert random["model_dir"] is None
    for row in (found, msdnet):
        folder = run_dir / row["model_dir"]
        names = {path.name for path in folder.iterdir()}
        assert names >= {f"exit_{exit}.{kind}" for exit in (1, 2) for kind in ("pt2", "onnx")}
        logits = load_exits(folder).predict(torch.zeros(1, 1, 8, 8), exit=1)
        assert logits.shape == (1, 10)
        predictor = load_predictor(folder)
        assert [policy.mean_macs for policy in predictor.policies] == sorted(
            policy["holdout_mean_macs"] for policy in row["adaptive"]
        )
        last = row["exits"][-1]["macs"]
        assert predictor.predict_within_mean(torch.zeros(3, 1, 8, 8), mean_macs=last).logits_BK.shape == (3, 10)
    assert "held out to choose by" in out and "images leaving once an exit is sure" in out and "each as likely" in out
    objectives = json.loads((run_dir / "front.json").read_text())["objectives"]
    assert objectives[0]["name"] == "holdout_area_under_curve"
    assert not any("test" in objective["name"] for objective in objectives)
    record = json.loads((run_dir / "run.json").read_text())
    assert record["status"] == "done"
    assert {stage["name"] for stage in record["stages"]} == {"search", "final", "export"}
    report = (run_dir / "report.html").read_text()
    assert "Accuracy within budgets" in report and "leaving early" in report
    assert "Accuracy of each exit" in report and "Normal cell" in report and "Energy and CO2" in report


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_killed_trials_and_programs_go_on_to_the_same_genotype_and_losses(whole, tmp_path):
    run_dir = tmp_path / "run"
    process = start(run_dir)
    wait_for(lambda: list(run_dir.glob("ray/search-1/*/checkpoint_*")), process)
    process.kill()  # in the middle of an epoch
    process.communicate()
    assert not json.loads((run_dir / "run.json").read_text()).get("finished")
    process = start(run_dir, "--resume")
    wait_for(lambda: list(run_dir.glob("ray/search-2/*/checkpoint_*")), process)
    wait_for(lambda: trial_process(process, "GenotypeTrial"), process).kill()  # Ray starts it again
    wait_for(lambda: list(run_dir.glob("ray/final-1/*/checkpoint_*")), process)
    process.kill()
    process.communicate()
    status, _, err = finish(start(run_dir, "--resume"))
    assert status == 0, err
    assert outcome(json.loads((run_dir / "anytime.json").read_text())) == outcome(whole[2])


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.long
def test_a_budget_ends_the_searches_and_what_was_found_is_trained(tmp_path):
    run_dir = tmp_path / "run"
    options = ["--epochs", "500", "--final-epochs", "1", "--seeds", "0", "--seeds", "1", "--no-progress"]
    status, out, err = finish(start(run_dir, *options, "--budget-hours", str(60 / 3600)))
    assert status == 0, err
    assert "so it will be ended early" in out
    results = json.loads((run_dir / "anytime.json").read_text())
    assert all(1 <= len(search["history"]) < 500 for search in results["searches"])
    notices = json.loads((run_dir / "run.json").read_text())["notices"]
    assert any("ended by its budget" in notice for notice in notices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "x"], "`preset` must be one of quick, paper-cifar10"),
        (["--scales", "4"], "`scales` must be from 1 to 3"),
        (["--scales", "2", "--scales", "2"], "`scales` must be at least one value, none twice"),
        (["--exits", "9"], "`exits` must be from 1 to 6"),
        (["--nodes", "3"], "`num_nodes` must be one of (2, 4)"),
        (["--order", "3"], "`order` must be 1 or 2"),
        (["--cost", "joule"], "`cost` must be one of macs, latency"),
        (["--cost-weight", "-1"], "`cost-weight` must be finite"),
        (["--cost-weight", "1", "--cost-target", "1"], "`target` must be above"),
        (["--cutout", "8"], "`cutout` must be below 8"),
        (["--relaxation", "x"], "`relaxation` must be one of softmax"),
        (["--drop-path", "1"], "`drop-path` must be in [0, 1)"),
        (["--preset", "ablation"], "`cutout` must be below 8"),
        (["--exits", "1", "--auxiliary"], "`has_auxiliary` must be False"),
        (["--exits", "2", "--auxiliary"], "`auxiliary` must be left out"),
        (["--cost-target", "1e6"], "`cost-target` must be a positive number and come with a cost weight"),
        (["--cost-weight", "1", "--cost-target", "-5"], "`cost-target` must be a positive number"),
        (["--final-exits", "0"], "`exits` must be from 1 to 6, got 0"),
        (["--final-scales", "0"], "`scales` must be from 1 to 3, got 0"),
        (["--final-channels", "0"], "`channels` must be at least 4"),
        (["--training-workers", "1000"], "`training-workers` must be at most"),
        (["--epochs", "3", "--frozen-epochs", "3"], "`frozen_epochs` must be from 0 to 2"),
        (["--halving", "1"], "`halving` must be above 1"),
        (["--cutout", "-2"], "`cutout` must be finite"),
        (["--epochs", "0"], "`epochs` must be at least 1"),
        (["--final-epochs", "0"], "must be at least 1"),
        (["--random", "-1"], "`random` must be at least 0"),
        (["--random", "3001"], "`random` must be at most 1,000, got 3,001"),
        (["--inference-budget", "-1"], "`inference-budget` must be positive numbers"),
        (["--seeds", "1", "--seeds", "1"], "`seeds` must be different"),
        (["--layers", "2"], "`layers` must be at least 3"),
        (["--channels", "1"], "`channels` must be at least 4"),
        (["--latency-device", "tpu"], "`device` must be cpu, cuda"),
        (["--workers", "10000"], "`workers` must be at most"),
        (["--data", "/nowhere"], "must be a folder"),
        (["--resume"], "needs the run's folder"),
        (["--json", "/nowhere/x.json"], "Make the folder first"),
        (["--place", "Atlantis"], "`place` must be a country"),
        (["--budget-kwh", "0"], "`budget-kwh` must be a positive number"),
    ],
)
def test_wrong_input_ends_in_one_sentence_and_status_2(options, message, capsys):
    assert main(*options) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_dry_run_says_what_it_would_do_and_leaves_nothing(tmp_path, capsys):
    assert main("--dry-run", "--run-dir", tmp_path / "run", *SHORT, "--scales", "1", "--scales", "2") == 0
    said = capsys.readouterr().out
    assert "2 with 1 seed(s), 4 layers of 2-node cells" in said and "2 scales, 2 exits, cutout 2" in said
    assert "Bill before the search" in said and "kg CO2e" in said
    assert not (tmp_path / "run").exists()
