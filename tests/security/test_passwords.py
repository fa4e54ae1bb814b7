"""Passwords of storages are in no message, record or report."""

import importlib.util
import json
import sys
import traceback
from pathlib import Path

import pytest
from rich.console import Console

from nasray.optuna_study.storage import open_storage
from nasray.records import RunDirectory
from nasray.redaction import hide_passwords
from nasray.report.page import render
from nasray.tune.cli_errors import exit_status
from nasray.tune.program import recorded

SECRET = "hunter2"
URLS = (
    f"postgresql://user:{SECRET}@localhost:1/db",
    f"mysql+pymysql://user:{SECRET}@localhost:1/db?charset=utf8",
    f"postgresql://user:{SECRET}%40x@localhost:1/db",
    f"postgresql://user:a@{SECRET}@localhost:1/db",
    f"postgresql://:{SECRET}@localhost:1/db",
    f"nodriver+{'x' * 5}://user:{SECRET}@localhost/db",
    f"postgresql://localhost:1/db?user=u&password={SECRET}",
)
STORAGES = (
    f"s3://key:{SECRET}@localhost/runs?region=x",
    f"abfs://localhost/runs?client_id=x&client_secret={SECRET}",
    f"abfs://localhost/runs?account_key={SECRET}&x=y",
    f"https://localhost/runs?sig={SECRET}",
)


@pytest.mark.parametrize("url", [*URLS, *STORAGES])
def test_hidden_urls_keep_everything_but_the_password(url):
    shown = hide_passwords(f"python x.py --storage={url} --seed 0")
    assert SECRET not in shown and "localhost" in shown and "--seed 0" in shown
    assert hide_passwords(shown) == shown


def test_texts_without_a_password_stay():
    for text in (
        "sqlite:///study.db",
        "https://example.org/a:b@c",
        "a:b@c",
        "--storage postgresql://user@host/db",
        "10:30",
        "https://example.org/?design=a&monkey=b",
    ):
        assert hide_passwords(text) == text


@pytest.mark.parametrize("url", URLS)
def test_a_storage_that_cannot_be_opened_does_not_tell(url):
    with pytest.raises(ValueError, match="`storage` must be a database") as caught:
        open_storage(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("url", URLS)
def test_programs_do_not_tell(url, capsys, tmp_path):
    path = Path(__file__).parents[2] / "experiments" / "nsga2_pareto.py"
    spec = importlib.util.spec_from_file_location("nsga2_pareto", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table = tmp_path / "t.csv"
    table.write_text("arch,latency_ms,accuracy\n1|a,1.5,0.1\n2|b,2.5,0.2\n")
    options = ["--space", "tabular", "--table", table, "--architecture", "arch", "--maximize", "accuracy"]
    options += ["--minimize", "latency_ms", "--storage", url, "--evaluations", "2", "--run-dir", tmp_path / "run"]
    assert exit_status(module.main, list(map(str, options))) == 2
    captured = capsys.readouterr()
    assert "`storage` must be a database" in captured.err
    assert SECRET not in captured.out + captured.err


def test_records_and_reports_do_not_tell(tmp_path, monkeypatch):
    settings = {"configuration": {}, "data": {}, "method": "m", "preset": "p", "seed": 0, "resume": False}
    run = RunDirectory.create(tmp_path / "run", **settings)
    monkeypatch.setattr(sys, "argv", ["nsga2_pareto.py", "--storage", URLS[0], f"--storage={URLS[1]}"])
    with recorded(run, Console(quiet=True)):
        pass
    text = (run.path / "run.json").read_text()
    assert SECRET not in text and "***" in text
    assert json.loads(text)["command"][-2:] == [
        "postgresql://user:***@localhost:1/db",
        f"--storage={hide_passwords(URLS[1])}",
    ]
    assert SECRET not in render(run)
