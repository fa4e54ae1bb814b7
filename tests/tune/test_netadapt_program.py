"""The main program as a person runs it: whole, killed, interrupted, and with wrong input."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nasray.tune.cli_errors import exit_status

PROGRAM = Path(__file__).parents[2] / "experiments" / "netadapt_imagenet.py"
SHORT = ["--epochs", "3", "--final-epochs", "2", "--samples", "10", "--layers", "4", "--target", "70%"]


def start(run_dir, *options):
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[1]), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(PROGRAM), "--run-dir", str(run_dir), *SHORT, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def program():
    """The program as a module of this process."""
    spec = importlib.util.spec_from_file_location("netadapt_imagenet", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def finish(process, timeout_s=240):
    out, err = process.communicate(timeout=timeout_s)
    return process.returncode, out, err


def rows_of(run_dir):
    path = run_dir / "evaluations.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition, timeout_s=120):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the program did not get there in time"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run without a break, and what it said."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    table = run_dir.parent / "table.json"
    status, out, err = finish(start(run_dir, "--json", str(table)))
    assert status == 0, err
    return run_dir, out, json.loads(table.read_text())


@pytest.mark.ray
@pytest.mark.slow
def test_run_leaves_report_front_models_and_table(whole):
    run_dir, out, table = whole
    assert "macs <= 70%" in out
    assert "handwritten digits" in out
    assert [row["label"] for row in table] == ["initial", "macs <= 70%"]
    initial, found = table
    assert found["macs"] <= 0.7 * initial["macs"]
    assert (run_dir / "report.html").stat().st_size < 8_000_000
    assert json.loads((run_dir / "run.json").read_text())["status"] == "done"
    assert json.loads((run_dir / "front.json").read_text())["points"]
    model = run_dir / found["model_dir"]
    assert {p.name for p in model.iterdir()} >= {"architecture.json", "weights.safetensors", "model.pt2", "card.md"}
    budgets = {row["iteration"]: row["budget"] for row in rows_of(run_dir)}
    assert all(row["metrics"]["macs"] <= budgets[row["iteration"]] for row in rows_of(run_dir))


@pytest.mark.ray
@pytest.mark.slow
def test_killed_run_resumes_to_the_same_candidates(whole, tmp_path):
    run_dir = tmp_path / "run"
    process = start(run_dir)
    wait_for(lambda: len(rows_of(run_dir)) > 10)
    process.kill()
    process.communicate()
    status, _, err = finish(start(run_dir, "--resume"))
    assert status == 0, err
    resumed = {row["sample_id"]: row["arch_id"] for row in rows_of(run_dir)}
    unbroken = {row["sample_id"]: row["arch_id"] for row in rows_of(whole[0])}
    assert resumed.keys() == unbroken.keys()
    assert resumed == unbroken


@pytest.mark.ray
@pytest.mark.slow
def test_interrupt_ends_with_130_and_says_how_to_go_on(tmp_path):
    run_dir = tmp_path / "run"
    process = start(run_dir, "--epochs", "500")
    wait_for(lambda: list(run_dir.glob("ray/supernet-1/seed0/checkpoint_*")))
    process.send_signal(signal.SIGINT)
    status, out, _ = finish(process, timeout_s=60)
    assert status == 130
    assert f"--resume --run-dir {run_dir}" in out
    assert json.loads((run_dir / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--cost", "foo"], "`cost` must be one of macs"),
        (["--target", "-3"], "`target` must be positive"),
        (["--target", "1e12"], "below the initial network's cost"),
        (["--target", "0.0001%"], "smallest cost that this space reaches"),
        (["--preset", "x"], "`preset` must be one of quick"),
        (["--network", "x"], "`network` must be one of"),
        (["--data", "/does/not/exist"], "must be a folder"),
        (["--epochs", "0"], "must be at least 1"),
        (["--seed", "-1"], "`seeds` must be different"),
        (["--nonsense"], "No such option"),
        (["--workers", "0"], "greater than or equal to 1"),
        (["--training-workers", "-1"], "greater than or equal to 1"),
        (["--target", "50%", "--target", "50%"], "must not repeat"),
        (["--cost", "latency", "--samples", "0"], "J and L must be at least 1"),
        (["--cost", "latency", "--latency-device", "tpu"], "`device` must be cpu, cuda"),
        (["--norm-policy", "x"], "`policy` must be one of running"),
        (["--ordered-dropout", "x"], "must be partitioned or masked"),
        (["--distillation", "2"], "`distillation` must be in [0, 1]"),
        (["--survival", "0"], "`survival` in (0, 1]"),
        (["--json", "/does/not/exist/table.json"], "Make the folder first"),
        (["--latency-table", "/does/not/exist"], "does not exist"),
    ],
)
def test_wrong_input_ends_with_one_sentence_and_status_2(tmp_path, capsys, options, sentence):
    status = exit_status(program().main, ["--run-dir", str(tmp_path / "run"), *options])
    assert status == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.mark.ray
@pytest.mark.slow
def test_run_directory_of_another_configuration_is_refused(whole, capsys):
    status = exit_status(program().main, ["--run-dir", str(whole[0]), *SHORT, "--resume", "--samples", "11"])
    assert status == 2
    assert "num_samples was 10 and is now 11" in capsys.readouterr().err
