import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest

from nasray.architecture import Architecture
from nasray.records import RunDirectory, RunError
from nasray.report import write_report

MARKUP = "<script>alert(1)</script><img src=https://example.org/x onerror=alert(1)>"


class Page(HTMLParser):
    """Collects a page's elements and text, scripts apart."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._is_script = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        self._is_script = tag == "script"
        if self._is_script:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False

    def handle_data(self, data: str) -> None:
        if self._is_script:
            self.scripts[-1] += data
        else:
            self.text += data

    def block(self, block_id: str) -> Any:
        """Content of a block of data for the scripts."""
        blocks = [attributes.get("id") for tag, attributes in self.elements if tag == "script"]
        return json.loads(self.scripts[blocks.index(block_id)])

    @property
    def figures(self) -> list[dict[str, Any]]:
        return self.block("figures")

    @property
    def programs(self) -> list[str]:
        """The scripts that run."""
        kinds = [attributes.get("type") for tag, attributes in self.elements if tag == "script"]
        return [text for text, kind in zip(self.scripts, kinds, strict=True) if kind is None]


def report(run: RunDirectory) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_report_of_a_whole_run_tells_its_figures(full_run: RunDirectory) -> None:
    page = report(full_run)
    for text in (
        "NetAdaptV2 on digits",
        "macs <= 50%: 93.00 % test accuracy (-2.00 points) at 1.000 M MACs (50.0 % of the initial network).",
        "target 1.000 M, met",
        "10, of 10 different networks",
        "-25.0 %",  # the prediction's error
        "out of memory",
        "1 min 30 s",
        "python 'a b.py'",
        "sha256:00",
        "search.iterations",
        "1 layers, of which 1 narrower, 1 with a smaller kernel",
        "10 candidates: 9 count, 0 are infeasible, 1 failed.",
        "Limit the space or the batch size, or use fewer workers.",
    ):
        assert text in page.text
    places = [attributes["id"] for _, attributes in page.elements if attributes.get("class") == "plot"]
    assert places == ["plot-pair", "plot-parallel", "figure-0", "figure-1"]  # these: hypervolume and trajectory
    assert len(page.figures) == 2


def test_report_is_one_file_that_loads_nothing(full_run: RunDirectory) -> None:
    page = report(full_run)
    assert write_report(full_run).stat().st_size < 8_000_000
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "base")
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    style = re.search(r"<style>(.*?)</style>", write_report(full_run).read_text(encoding="utf-8"), re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_policy_lets_only_the_reports_own_scripts_run(full_run: RunDirectory) -> None:
    page = report(full_run)
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy") or ""
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in page.programs]
    assert policy.startswith("default-src 'none'; script-src " + " ".join(f"'sha256-{digest}'" for digest in digests))
    assert len(digests) == 5
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_markup_from_files_is_shown_as_text(
    full_run: RunDirectory, make_result: Callable[..., dict[str, Any]], layer: dict[str, Any]
) -> None:
    before = [tag for tag, _ in report(full_run).elements]
    num_images, num_scripts = before.count("img"), before.count("script")
    lines = (full_run.path / "evaluations.jsonl").read_text().splitlines()
    for key in ("arch_id", "trial_id", "cost_name"):
        foreign = json.loads(lines[0]) | {"sample_id": key, key: MARKUP}
        lines.append(json.dumps(foreign | {"metrics": {"accuracy": 0.99, "macs": 1, MARKUP: 2.0}}))
    lines.append(json.dumps({"sample_id": "failed", "arch_id": "a", "status": MARKUP, "reason": MARKUP}))
    (full_run.path / "evaluations.jsonl").write_text("\n".join(lines) + "\n")
    hostile_layer = layer | {"name": MARKUP, "block": MARKUP, "kind": MARKUP}
    texts = dict.fromkeys(("label", "arch_id", "trial_id", "device", "cost_name", "model_dir"), MARKUP)
    hostile = make_result("x") | texts | {"layers": [hostile_layer, hostile_layer | {"kernel": 0, "is_removed": True}]}
    full_run.update(results=[*full_run.run["results"], hostile], command=MARKUP, method=MARKUP, preset=MARKUP)
    full_run.update(data={"name": MARKUP, MARKUP: MARKUP}, status="done")
    full_run.add_notice(MARKUP)
    full_run.add_stage(MARKUP, 1.0, started=MARKUP, device=MARKUP)
    page = report(full_run)
    tags = [tag for tag, _ in page.elements]
    assert (tags.count("img"), tags.count("script")) == (num_images, num_scripts) == (0, 7)
    assert page.text.count(MARKUP) > 20
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    shown = [
        text
        for figure in page.figures
        for trace in figure["data"]
        for text in [trace["name"], *trace.get("hovertext", [])]
    ]
    assert any("&lt;script" in text for text in shown)
    assert not any("<script" in text or "<img" in text for text in shown)
    assert MARKUP in page.block("candidates")["ids"]  # which the script escapes, or writes as text


def test_report_of_a_run_that_recorded_nothing_says_so(empty_run: RunDirectory) -> None:
    page = report(empty_run)
    for sentence in (
        "No result was recorded before the run stopped.",
        "No evaluations were recorded before the run stopped.",
        "No iteration had chosen its best sample before the run stopped.",
        "No network was recorded layer by layer.",
        "No stage had finished before the run stopped.",
        "The run had not finished when this report was written",
    ):
        assert sentence in page.text
    assert page.scripts == []
    assert (empty_run.path / "report.html").stat().st_size < 100_000


def test_report_of_a_run_whose_evaluations_all_failed_says_so(
    empty_run: RunDirectory, make_evaluation: Callable[..., dict[str, Any]]
) -> None:
    empty_run.append_evaluations([make_evaluation(0, status="failed", reason="diverged", metrics={})])
    empty_run.update(status="failed")
    page = report(empty_run)
    assert "No candidate that meets the constraints has two figures" in page.text
    assert "diverged" in page.text
    assert "The run failed;" in page.text


def test_plots_offer_every_figure_and_trial(full_run: RunDirectory) -> None:
    page = report(full_run)
    options = [attributes["value"] for tag, attributes in page.elements if tag == "option"]
    names = ["accuracy", "macs", "latency_ms"]
    assert options[: 2 * len(names)] == [*names, *names]
    chosen = [attributes["value"] for tag, attributes in page.elements if tag == "option" and "selected" in attributes]
    assert chosen == ["macs", "accuracy", "auto", "all"]
    data = page.block("candidates")
    assert data["trials"] == ["macs-0.50-seed0", "macs-0.25-seed0"]
    assert data["trial"] == [0] * 8 + [1, 0]
    assert data["selected"] == [0, 4, 8]
    assert [(mark["label"], mark["kind"]) for mark in data["marks"]] == [
        ("initial", "initial"),
        ("macs <= 50%", "found"),
    ]


def test_every_figure_of_every_candidate_is_there_once(
    empty_run: RunDirectory, make_evaluation: Callable[..., dict[str, Any]]
) -> None:
    metrics = [{"accuracy": 0.5 + number % 7 / 20, "macs": number} for number in range(9000)]
    empty_run.append_evaluations([make_evaluation(number, metrics=own) for number, own in enumerate(metrics)])
    page = report(empty_run)
    data = page.block("candidates")
    assert data["values"]["macs"] == list(range(9000))
    assert (empty_run.path / "report.html").read_text().count('"a8999"') == 1
    assert (empty_run.path / "report.html").stat().st_size < 8_000_000


def test_candidates_beyond_a_limit_are_told_apart_from_failures(
    empty_run: RunDirectory, make_evaluation: Callable[..., dict[str, Any]]
) -> None:
    empty_run.append_evaluations([make_evaluation(number) for number in range(4)])
    empty_run.update(configuration={"constraints": ["macs<=998000"]})
    page = report(empty_run)
    assert page.block("candidates")["kinds"] == "iikk"
    assert "not macs<=998000" in page.text
    assert "Of 4 evaluations, 0 failed and 2 were infeasible." in page.text


def test_networks_of_the_best_trade_offs_are_drawn(
    empty_run: RunDirectory, make_evaluation: Callable[..., dict[str, Any]]
) -> None:
    rows = []
    for number, metrics in enumerate([{"accuracy": 0.9, "macs": 100}, {"accuracy": 0.89, "macs": 50}]):
        choices = {"00.kind": "conv", "00.filters": 8 * (number + 1)}
        architecture = {"space": "chain", "choices": choices}
        arch_id = Architecture.from_json(architecture).arch_id
        changes = {"metrics": metrics, "architecture": architecture, "arch_id": arch_id, "selected": False}
        rows.append(make_evaluation(number, **changes))
    empty_run.append_evaluations(rows)
    page = report(empty_run)
    assert "best accuracy" in page.text and "least MACs" in page.text
    assert "8 filters" in page.text and "16 filters" in page.text


def test_damaged_evaluations_are_named(full_run: RunDirectory) -> None:
    path = full_run.path / "evaluations.jsonl"
    path.write_text("{torn\n" + path.read_text())
    with pytest.raises(RunError, match="line 1 is damaged"):
        write_report(full_run)


def test_import_loads_neither_plotly_nor_pymoo_nor_pandas() -> None:
    heavy = "{'plotly', 'pymoo', 'pandas', 'torch', 'rich'}"
    code = f"import sys, nasray.report, nasray.records; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
