"""The Pareto program as a person runs it, and its study as optuna-dashboard shows it."""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pandas as pd
import pytest

from nasray.commands import runs as commands_runs
from nasray.pareto import hypervolume
from nasray.tune.cli_errors import exit_status

PROGRAM = Path(__file__).parents[2] / "experiments" / "nsga2_pareto.py"


def program():
    """The program as a module of this process."""
    spec = importlib.util.spec_from_file_location("nsga2_pareto", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*options):
    return exit_status(program().main, [str(option) for option in options])


def study_of(run_dir):
    backend = optuna.storages.journal.JournalFileBackend(str(run_dir / "optuna.log"))
    return optuna.load_study(study_name="nasray", storage=optuna.storages.JournalStorage(backend))


def rows_of(run_dir):
    path = run_dir / "evaluations.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module")
def tabular(tmp_path_factory):
    """Options of a search in a table of 1,000 networks."""
    path = tmp_path_factory.mktemp("table") / "networks.csv"
    frame = pd.DataFrame([(a, b, c) for a in range(10) for b in range(10) for c in range(10)], columns=list("abc"))
    frame["latency_ms"] = frame.a + 2.0 * frame.b + frame.c
    frame["accuracy"] = 1 - 1 / (1 + frame.a + frame.b * frame.c)
    frame.to_csv(path, index=False)
    names = ["--architecture", "a,b,c", "--maximize", "accuracy", "--minimize", "latency_ms"]
    return ["--space", "tabular", "--table", path, *names, "--no-progress"]


def test_table_leaves_front_record_and_study(tabular, tmp_path, capsys):
    run_dir, file = tmp_path / "run", tmp_path / "front.json"
    options = ["--evaluations", 150, "--population-size", 20, "--constraint", "latency_ms<=15"]
    assert run(*tabular, *options, "--run-dir", run_dir, "--json", file) == 0
    assert f"optuna-dashboard {run_dir}/optuna.log" in capsys.readouterr().out
    written = json.loads(file.read_text())
    front = written["front"]
    latencies = [row["metrics"]["latency_ms"] for row in front]
    assert latencies == sorted(latencies, reverse=True) and 0 < latencies[0] <= 15
    assert len({row["arch_id"] for row in rows_of(run_dir)}) == len(rows_of(run_dir)) == 150
    # The hypervolume is that up to the point beside it.
    feasible = [row["metrics"] for row in rows_of(run_dir) if row["metrics"]["latency_ms"] <= 15]
    worst = {"accuracy": min(m["accuracy"] for m in feasible), "latency_ms": max(m["latency_ms"] for m in feasible)}
    assert written["reference_point"] == worst
    found = [(-row["metrics"]["accuracy"], row["metrics"]["latency_ms"]) for row in front]
    assert written["hypervolume"] == pytest.approx(hypervolume(found, [-worst["accuracy"], worst["latency_ms"]]))
    assert json.loads((run_dir / "run.json").read_text())["status"] == "done"
    assert json.loads((run_dir / "front.json").read_text())["points"]
    study = study_of(run_dir)
    assert study.metric_names == ["accuracy", "latency_ms"]
    # The study's front has the program's figures; the dashboard shows this one.
    told = {tuple(trial.values) for trial in study.best_trials}
    assert told == {(row["metrics"]["accuracy"], row["metrics"]["latency_ms"]) for row in front}


@pytest.fixture
def line(tmp_path):
    """Options of a search in a table all of whose 26 networks are on the front."""
    path = tmp_path / "line.csv"
    frame = pd.DataFrame({"a": range(26), "accuracy": range(26), "latency_ms": range(26), "area": range(26)})
    frame.to_csv(path, index=False)
    return ["--space", "tabular", "--table", path, "--architecture", "a", "--maximize", "accuracy", "--no-progress"]


def test_a_front_that_is_not_shown_whole_says_so(line, tmp_path, capsys):
    folder = tmp_path / "with space"
    assert run(*line, "--minimize", "latency_ms", "--evaluations", 26, "--run-dir", folder) == 0
    assert f"20 of 26 shown; all of them: nasray front '{folder}'\n" in capsys.readouterr().out
    assert len(commands_runs.front_rows(folder)) == 26
    # `nasray front` has no front of three.
    assert run(*line, "--minimize", "latency_ms,area", "--evaluations", 26, "--run-dir", tmp_path / "three") == 0
    assert "20 of 26 shown; all of them: the report, or --json FILE" in capsys.readouterr().out
    assert run(*line, "--minimize", "latency_ms", "--evaluations", 20, "--run-dir", tmp_path / "short") == 0
    assert "all of them" not in capsys.readouterr().out


def test_without_a_feasible_candidate_the_limits_that_most_break_are_named(line, tmp_path, capsys):
    file = tmp_path / "front.json"
    limits = ["--constraint", "accuracy>=20", "--constraint", "latency_ms<=-1", "--constraint", "area<=99"]
    options = ["--minimize", "latency_ms", "--evaluations", 26, "--run-dir", tmp_path / "run", "--json", file]
    assert run(*line, *limits, *options) == 0
    said = capsys.readouterr().out
    assert "None of 26 candidates is feasible: 26 break latency_ms<=-1, 20 break accuracy>=20.\n" in said
    assert "Pareto front" not in said
    assert json.loads(file.read_text()) == {"front": [], "hypervolume": 0.0, "reference_point": None}


@pytest.fixture
def uneven(tmp_path):
    """Options of a table with gaps, a repeated architecture and text among the numbers."""
    path = tmp_path / "uneven.csv"
    path.write_text("a,accuracy,phone_ms,note\nx,0.5,1,1\nx,0.7,1,hello\ny,0.6,,3\nz,,inf,4\nw,0.8,2,5\n")
    names = ["--architecture", "a", "--maximize", "accuracy", "--run-dir", tmp_path / "run", "--dry-run"]
    return ["--space", "tabular", "--table", path, *names]


def test_what_a_table_leaves_out_is_said(uneven, capsys):
    assert run(*uneven, "--minimize", "phone_ms", "--duplicates", "mean") == 0
    said = capsys.readouterr().out
    assert "Table: uneven, 2 architectures, figures: accuracy, phone_ms." in said
    assert "2 of 5 rows left out, as figures are missing: accuracy in 1, phone_ms in 2." in said
    assert "Rows that list an architecture again, which counts once: 1." in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "must have one accuracy, got 0.5 and 0.7 for one of them. Set `duplicates` to first or mean"),
        (["--duplicates", "last"], "`duplicates` must be one of error, first, mean, got 'last'"),
        (["--minimize", "note"], "Metric `note` must be numeric, got 'hello' in row 1 (counted from 0)"),
        (["--minimize", "speed"], "`minimize` must name a column of the table such as 'a', 'accuracy'"),
        (["--maximize", "speed"], "`maximize` must name a column"),
        (["--constraint", "speed<=3"], "`constraint` must name a column"),
        (["--devices", "phone_ms,speed"], "`devices` must name a column"),
        (["--architecture", "speed"], "`architecture` must name a column"),
        (["--combine", "weighted"], "`combine` must be left out without `devices`, got 'weighted'"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_by_the_name_of_the_option(uneven, capsys, options, sentence):
    assert run(*uneven, *options) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_killed_run_goes_on_without_asking_twice(tabular, tmp_path):
    run_dir = tmp_path / "run"
    options = [*map(str, tabular), "--evaluations", "900", "--run-dir", str(run_dir)]
    environment = os.environ | {"PYTHONPATH": str(PROGRAM.parents[1]), "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen([sys.executable, str(PROGRAM), *options], env=environment, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(rows_of(run_dir)) < 100:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert len(rows_of(run_dir)) < 900
    assert run(*options, "--resume") == 0
    evaluated = [row["arch_id"] for row in rows_of(run_dir)]
    assert len(set(evaluated)) == len(evaluated)
    study = study_of(run_dir)
    assert {trial.state.name for trial in study.trials} <= {"COMPLETE", "FAIL"}
    assert len({trial.user_attrs["arch_id"] for trial in study.trials}) == 900


def test_finished_run_can_search_on(tabular, tmp_path):
    for evaluations, options in ((30, []), (50, ["--resume"])):
        assert run(*tabular, "--evaluations", evaluations, "--run-dir", tmp_path / "run", *options) == 0
        assert len(rows_of(tmp_path / "run")) == evaluations


def test_study_in_a_database_is_continued_only_when_asked(tabular, tmp_path, capsys):
    options = [*tabular, "--evaluations", 30, "--storage", f"sqlite:///{tmp_path / 'study.db'}"]
    assert run(*options, "--run-dir", tmp_path / "one") == 0
    assert run(*options, "--run-dir", tmp_path / "two") == 2
    assert "must hold no study 'nasray' yet" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()
    assert run(*options, "--run-dir", tmp_path / "two", "--study-name", "another") == 0


@pytest.mark.ray
@pytest.mark.slow
def test_subnets_are_evaluated_on_workers(tmp_path):
    run_dir, file = tmp_path / "run", tmp_path / "front.json"
    options = ["--epochs", 4, "--evaluations", 60, "--population-size", 20, "--workers", 2, "--no-progress"]
    goals = ["--maximize", "accuracy", "--minimize", "macs,memory_bytes", "--constraint", "parameters<=40000"]
    assert run(*options, *goals, "--run-dir", run_dir, "--json", file) == 0
    rows = rows_of(run_dir)
    assert len(rows) == 60 and {row["status"] for row in rows} == {"ok"}
    largest = max(row["metrics"]["macs"] for row in rows)
    assert rows[0]["metrics"]["macs"] == largest
    front = json.loads(file.read_text())["front"]
    assert all(row["metrics"]["parameters"] <= 40000 for row in front)
    study = study_of(run_dir)
    assert len(study.directions) == 3
    trial = study.trials[-1]
    assert trial.user_attrs["parameters"] > 0 and list(trial.constraints) == ["parameters<=40000"]


@pytest.mark.ray
@pytest.mark.slow
def test_cells_are_trained_one_trial_each(tmp_path):
    run_dir = tmp_path / "run"
    options = ["--space", "cell", "--epochs", 1, "--evaluations", 3, "--workers", 2, "--no-progress"]
    assert run(*options, "--run-dir", run_dir) == 0
    rows = rows_of(run_dir)
    assert len(rows) == 3 and all(row["metrics"]["macs"] > 0 for row in rows)
    assert len({trial.user_attrs["arch_id"] for trial in study_of(run_dir).trials}) == 3
    # Nothing is left to do.
    assert run(*options, "--run-dir", run_dir, "--resume") == 0
    assert len(rows_of(run_dir)) == 3


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--space", "depth"], "`space` must be one of mobile, chain, cell, tabular"),
        (["--space", "tabular"], "`table`, `architecture` and an objective must be given"),
        (["--space", "tabular", "--epochs", "3"], "`epochs` must be left out with the space tabular"),
        (["--table", "x.csv"], "`table` must be left out with the space mobile"),
        (["--sampler", "cmaes"], "`sampler` must be one of nsga2"),
        (["--sampler", "tpe", "--population-size", "9"], "`population_size` must be left out for 'tpe'"),
        (["--evaluations", "0"], "`evaluations` must be at least 1"),
        (["--combine", "weighted"], "`combine` must be left out with the space mobile"),
        (["--duplicates", "mean"], "`duplicates` must be left out with the space mobile"),
        (["--minimize", "energy"], "must be one of accuracy, loss, macs"),
        (["--constraint", "macs"], "must read like latency_ms<=5"),
        (["--constraint", "speed<=5"], "must be one of accuracy, loss, macs"),
        (["--data", "/does/not/exist"], "must be a folder"),
        (["--storage", "/does/not/exist/optuna.log"], "must be a file in a folder that exists"),
        (["--json", "/does/not/exist/front.json"], "Make the folder first"),
        (["--workers", "0"], "greater than or equal to 1"),
    ],
)
def test_wrong_input_ends_with_one_sentence_and_status_2(tmp_path, capsys, options, sentence):
    assert run("--run-dir", tmp_path / "run", *options) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert sentence in error
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_would_be_done_and_leaves_nothing(tmp_path, capsys):
    assert run("--dry-run", "--run-dir", tmp_path / "run") == 0
    assert "Search: nsga2, 1,000 candidates, maximize accuracy, minimize macs." in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.fixture
def dashboard(tabular, tmp_path):
    """Address of optuna-dashboard with the study of a finished run."""
    if importlib.util.find_spec("optuna_dashboard") is None:
        pytest.skip("optuna-dashboard is not installed: pip install nasray[dashboard]")
    assert run(*tabular, "--evaluations", 60, "--run-dir", tmp_path / "run") == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from optuna_dashboard._cli import main; main()"
    command = [sys.executable, "-c", code, "--port", str(port), str(tmp_path / "run" / "optuna.log")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 60
        while not answers(f"{address}/api/studies"):
            assert process.poll() is None and time.monotonic() < end, "the dashboard did not start"
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


def answers(address):
    try:
        with urllib.request.urlopen(address) as response:
            return response.status == 200
    except OSError:
        return False


@pytest.mark.slow
def test_optuna_dashboard_shows_the_front(dashboard, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium to look at the dashboard with")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=15000"]
    command = [browser, *options, f"--user-data-dir={tmp_path / 'browser'}", "--dump-dom"]
    page = subprocess.run(
        [*command, f"{dashboard}/dashboard/studies/0"], capture_output=True, text=True, timeout=120, check=True
    ).stdout
    assert "Pareto Front" in page
    assert "accuracy" in page and "latency_ms" in page
    plot = page[page.index("Pareto Front") :]
    assert plot.index('class="points"') < plot.index("History")


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
    """A table whose networks cost the contrary on two devices."""
    path = tmp_path_factory.mktemp("devices") / "networks.csv"
    frame = pd.DataFrame([(a, b) for a in range(20) for b in range(20)], columns=list("ab"))
    frame["phone_ms"], frame["server_ms"] = 1.0 + frame.a, 0.01 * (1 + frame.b)
    frame["accuracy"] = 0.5 + 0.01 * (frame.a + frame.b)
    frame.to_csv(path, index=False)
    options = ["--space", "tabular", "--table", path, "--architecture", "a,b", "--maximize", "accuracy"]
    return [*options, "--devices", "phone_ms,server_ms", "--evaluations", 120, "--population-size", 20, "--no-progress"]


@pytest.mark.parametrize(
    ("combine", "names"),
    [
        ("worst-case", ["worst_device"]),
        ("weighted", ["weighted_devices"]),
        ("each", ["phone_ms", "server_ms"]),
    ],
)
def test_one_search_for_several_devices(two_devices, tmp_path, capsys, combine, names):
    assert run(*two_devices, "--combine", combine, "--run-dir", tmp_path / "run") == 0
    said = capsys.readouterr().out
    assert "Front against phone_ms alone" in said and "Front against server_ms alone" in said
    how = {"worst-case": "worst_device is the largest", "weighted": "weighted_devices is the mean"}
    for name, text in how.items():
        assert (f"{text} of phone_ms / 10.5, server_ms / 0.105" in said) == (name == combine)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [objective["name"] for objective in record["configuration"]["objectives"]] == ["accuracy", *names]
    for row in rows_of(tmp_path / "run"):
        metrics = row["metrics"]
        shares = [metrics["phone_ms"] / 10.5, metrics["server_ms"] / 0.105]
        if combine == "worst-case":
            assert metrics["worst_device"] == pytest.approx(max(shares))
        elif combine == "weighted":
            assert metrics["weighted_devices"] == pytest.approx(sum(shares) / 2)


def test_the_cost_of_all_devices_can_have_a_limit(two_devices, tmp_path):
    file = tmp_path / "front.json"
    options = ["--constraint", "worst_device<=0.8", "--run-dir", tmp_path / "run", "--json", file]
    assert run(*two_devices, *options) == 0
    front = json.loads(file.read_text())["front"]
    assert front and all(row["metrics"]["worst_device"] <= 0.8 for row in front)


def test_devices_need_a_table_and_a_known_combination(two_devices, capsys):
    assert run("--devices", "a,b", "--dry-run") == 2
    assert "`devices` must be left out with the space mobile" in capsys.readouterr().err
    assert run(*two_devices, "--combine", "best", "--dry-run") == 2
    assert "`combine` must be one of worst-case, weighted, each" in capsys.readouterr().err
