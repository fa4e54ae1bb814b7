"""The Grafana dashboard and the provisioning files, without any server."""

import json
import re
from itertools import combinations

import pytest

from nasray.tune.live.metrics import EVALUATIONS, GAUGES

METRICS = {f"ray_{name}" for name in GAUGES} | {f"ray_{EVALUATIONS}_total"}


def differences(given, read, path=""):
    """Yield where a value differs from what was given, or is gone."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from differences(value, read[key], f"{path}/{key}") if key in read else [f"{path}/{key} is lost"]
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for index, pair in enumerate(zip(given, read, strict=True)):
            yield from differences(*pair, f"{path}[{index}]")
    elif given != read:
        yield f"{path}: {given} became {read}"


def test_nothing_in_the_dashboard_is_unknown_to_grafanas_schema(dashboard) -> None:
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason="needs grafana-foundation-sdk")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    register_default_plugins()
    read = json.loads(JSONEncoder().encode(models.Dashboard.from_json(dashboard)))
    assert list(differences(dashboard, read)) == []


def test_differences_are_found() -> None:
    given = {"a": [{"b": 1, "c": 2}]}
    assert list(differences(given, {"a": [{"b": 3}]})) == ["/a[0]/b: 1 became 3", "/a[0]/c is lost"]


def test_units_are_grafanas_own(dashboard) -> None:
    units = pytest.importorskip("grafana_foundation_sdk.models.units", reason="needs grafana-foundation-sdk")
    known = {value for value in vars(units).values() if isinstance(value, str)}
    assert {panel["fieldConfig"]["defaults"]["unit"] for panel in dashboard["panels"]} <= known


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        is_below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert is_beside or is_below


def test_every_metric_is_shown_and_every_shown_metric_exists(queries) -> None:
    shown = {name for query in queries.values() for name in re.findall(r"ray_nasray_\w+", query)}
    assert shown == METRICS


def test_queries_add_up_over_workers_and_are_of_the_chosen_runs(dashboard) -> None:
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            assert re.search(r"\b(max|min|sum) by \(", target["expr"]), target["expr"]
            assert 'run=~"$run"' in target["expr"]


def test_the_variables_are_the_data_source_and_the_run(dashboard) -> None:
    source, run = dashboard["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == ("datasource", "datasource", "prometheus")
    assert (run["name"], run["query"]["query"]) == ("run", "label_values(ray_nasray_hours, run)")


def test_provisioning_names_the_data_source_and_both_folders(folder) -> None:
    yaml = pytest.importorskip("yaml")
    provisioning = folder / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["name"], source["type"], source["url"]) == ("Prometheus", "prometheus", "http://localhost:9090")
    ours, rays = yaml.safe_load((provisioning / "dashboards" / "nasray.yml").read_text())["providers"]
    assert ours["options"]["path"] == "${NASRAY_DASHBOARDS}"
    assert rays["options"]["path"] == "/tmp/ray/session_latest/metrics/grafana/dashboards"
