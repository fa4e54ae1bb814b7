"""The dashboard's queries, as Prometheus gets them from Grafana."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "dashboards"


@pytest.fixture(scope="session")
def folder():
    return FOLDER


@pytest.fixture(scope="session")
def dashboard():
    return json.loads((FOLDER / "nasray.json").read_text())


@pytest.fixture(scope="session")
def queries(dashboard):
    """Expressions by panel title and letter, with Grafana's variables filled in."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$run", ".*").replace("$__rate_interval", "20s")
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
