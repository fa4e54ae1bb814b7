"""`nasray dashboard`: Optuna's dashboard on the study of a run."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from nasray import cli
from nasray.optuna_study.storage import close_storage, new_study, open_storage
from nasray.records import RunDirectory
from nasray.tune import study_dashboard

ROOT = Path(__file__).parents[2]


def run_of(path, method):
    made = {"preset": "test", "configuration": {}, "seed": 0, "data": {}}
    RunDirectory.create(path, method=method, resume=False, **made).close()
    return path


@pytest.fixture
def run_with_study(tmp_path):
    path = run_of(tmp_path / "run", "optuna-nsga2")
    storage = open_storage(path / study_dashboard.STUDY_FILE)
    study = new_study(storage, ["maximize", "minimize"])
    for accuracy in (0.5, 0.7, 0.9):
        trial = study.ask()
        trial.suggest_float("width", 0.0, 1.0)
        study.tell(trial, [accuracy, 10 * accuracy])
    close_storage(storage)
    return path, study.study_name


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(run_with_study, port, tmp_path):
    """The command as a user starts it, on a free port; gives its address."""
    pytest.importorskip("optuna_dashboard", reason="needs optuna-dashboard")
    command = [sys.executable, "-m", "nasray.cli", "dashboard", str(run_with_study[0]), "--port", str(port)]
    log = tmp_path / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=output, stderr=output) as process,
    ):
        address = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 120
        while not answers(address):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield address, log, process
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def answers(address):
    try:
        return bool(read(address))
    except (urllib.error.URLError, ConnectionError):
        return False


def read(address):
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read()


@pytest.mark.slow
def test_the_study_is_served_to_this_machine_alone(server, run_with_study, port) -> None:
    address, log, process = server
    (summary,) = json.loads(read(f"{address}/api/studies"))["study_summaries"]
    assert summary["study_name"] == run_with_study[1]
    study = json.loads(read(f"{address}/api/studies/0?after=0"))
    assert [trial["values"] for trial in study["trials"]] == [[0.5, 5.0], [0.7, 7.0], [0.9, 9.0]]
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    hosts = {line[1].split(":")[0] for line in listening if int(line[1].split(":")[1], 16) == port and line[3] == "0A"}
    assert hosts == {"0100007F"}
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert f"Open {address} in a browser" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_shows_the_study(server, run_with_study, tmp_path) -> None:
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}"]
    page = subprocess.run(
        [*command, "--virtual-time-budget=20000", "--dump-dom", f"{server[0]}/dashboard"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert run_with_study[1] in page


def test_a_run_without_a_study_is_told_so(tmp_path, capsys) -> None:
    assert cli.main(["dashboard", str(run_of(tmp_path / "run", "evolution"))]) == 2
    assert "must have an Optuna study, got" in capsys.readouterr().err


def test_a_study_elsewhere_has_to_be_named(tmp_path, capsys) -> None:
    assert cli.main(["dashboard", str(run_of(tmp_path / "run", "optuna-tpe"))]) == 2
    assert "keeps its study elsewhere. Name it: nasray dashboard" in capsys.readouterr().err


def test_no_run_is_told_so(tmp_path, capsys) -> None:
    assert cli.main(["dashboard", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_a_missing_dashboard_is_told_so(run_with_study, capsys, monkeypatch) -> None:
    monkeypatch.setattr(study_dashboard.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["dashboard", str(run_with_study[0])]) == 2
    assert "pip install 'nasray[dashboard]'" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_so(run_with_study, capsys) -> None:
    pytest.importorskip("optuna_dashboard", reason="needs optuna-dashboard")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert cli.main(["dashboard", str(run_with_study[0]), "--port", str(taken.getsockname()[1])]) == 2
    assert "must be free to listen on" in capsys.readouterr().err
