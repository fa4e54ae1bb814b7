"""A real Prometheus scrapes a real search, and every query of the dashboard finds data."""

import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RAYS_FILE = "/tmp/ray/prom_metrics_service_discovery.json"
TIMEOUT_S = 240.0  # many times what it takes

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs the program prometheus (Debian's package)"),
    pytest.mark.skipif(importlib.util.find_spec("aiohttp_cors") is None, reason="needs ray[default]"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def ray_folder():
    """A folder of Ray's own, with a short name for its sockets: the usual one is shared by all Rays of the machine."""
    folder = tempfile.mkdtemp(prefix="nr", dir="/tmp")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def prometheus(ray_folder, tmp_path):
    """Prometheus with the provisioned configuration, but for the folder and the pace; gives its address."""
    text = (ROOT / "dashboards" / "prometheus.yml").read_text()
    assert RAYS_FILE in text
    text = re.sub(r"(scrape_interval|evaluation_interval|refresh_interval): \w+", r"\1: 1s", text)
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace(RAYS_FILE, str(ray_folder / "ray" / Path(RAYS_FILE).name)))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    with (
        (tmp_path / "prometheus.log").open("w") as log,
        subprocess.Popen([*command, f"--web.listen-address={address}"], stdout=log, stderr=log) as process,
    ):
        yield f"http://{address}"
        process.terminate()


@pytest.fixture
def search(ray_folder, tmp_path):
    """A search that goes on until it is interrupted."""
    command = [sys.executable, str(ROOT / "experiments" / "evolve_cifar.py"), "--evaluations", "5000", "--epochs", "1"]
    options = ["--workers", "2", "--budget-hours", "1", "--budget-kwh", "1", "--budget-co2-kg", "1"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "RAY_TMPDIR": str(ray_folder),
        "RAY_metrics_report_interval_ms": "1000",
    }
    with (
        (tmp_path / "search.log").open("w") as log,
        subprocess.Popen(
            [*command, *options, "--run-dir", str(tmp_path / "run")], env=environment, stdout=log, stderr=log
        ) as process,
    ):
        yield process
        process.send_signal(signal.SIGINT)
        process.wait(60)


def ask(address, what, **parameters):
    url = f"{address}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]


def wait_for(condition, process, log):
    """Ask again and again, until there is nothing left to wait for."""
    end = time.monotonic() + TIMEOUT_S
    while left := condition():
        assert process.poll() is None, f"the search ended: {log.read_text()[-2000:]}"
        assert time.monotonic() < end, f"still nothing for {left}; the search said {log.read_text()[-2000:]}"
        time.sleep(1.0)


def test_every_query_of_the_dashboard_has_data(prometheus, search, queries, tmp_path) -> None:
    found = {}

    def unanswered():
        for title in queries.keys() - found.keys():
            try:
                result = ask(prometheus, "query", query=queries[title])["result"]
            except urllib.error.HTTPError as error:
                pytest.fail(f"{title} is refused: {error.read().decode()}")
            except urllib.error.URLError:  # not up yet
                continue
            if result:
                found[title] = result
        return sorted(queries.keys() - found.keys())

    wait_for(unanswered, search, tmp_path / "search.log")
    values = {title: [float(series["value"][1]) for series in result] for title, result in found.items()}
    assert all(value >= 0 for series in values.values() for value in series)
    assert {series["metric"]["run"] for series in found["Energy A"]} == {"run"}
    assert {series["metric"]["kind"] for series in found["Budget left A"]} == {"hours", "kwh", "co2_kg"}
    assert all(0 < left <= 1 for left in values["Budget left A"])
    assert {series["metric"]["state"] for series in found["Workers A"]} == {"busy", "all"}
    assert 0 < values["Best accuracy A"][0] <= 1
    assert values["Power of nodes A"][0] > 0
    assert ask(prometheus, "label/run/values") == ["run"]
    formatted = [ask(prometheus, "format_query", query=query) for query in queries.values()]
    assert all(formatted)
