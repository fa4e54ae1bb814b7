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

    @property
    def figures(self) -> list[dict[str, Any]]:
        return json.loads(self.scripts[0])


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
    ):
        assert text in page.text
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
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in page.scripts[1:]]
    assert policy.startswith("default-src 'none'; script-src " + " ".join(f"'sha256-{digest}'" for digest in digests))
    assert len(digests) == 2
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
    assert (tags.count("img"), tags.count("script")) == (num_images, num_scripts) == (0, 3)
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
    assert "No evaluation has both an accuracy and a cost" in page.text
    assert "diverged" in page.text
    assert "The run failed;" in page.text


def test_figures_offer_every_cost_and_trial(full_run: RunDirectory) -> None:
    page = report(full_run)
    options = [attributes["value"] for tag, attributes in page.elements if tag == "option"]
    trials = ["macs-0.50-seed0", "macs-0.25-seed0"]
    assert options == ["macs", "latency_ms", "", *trials, "", *trials]
    roles = [trace["meta"]["role"] for trace in page.figures[0]["data"]]
    assert {role: roles.count(role) for role in roles} == {
        "samples": 2,
        "front": 6,  # two costs, for all trials and for each
        "path": 2,
        "initial": 1,
        "found": 1,
    }


def test_report_stays_small_with_many_samples(
    empty_run: RunDirectory, make_evaluation: Callable[..., dict[str, Any]]
) -> None:
    empty_run.append_evaluations(
        [make_evaluation(number, metrics={"accuracy": 0.5 + number % 7 / 20, "macs": number}) for number in range(9000)]
    )
    page = report(empty_run)
    samples = next(trace for trace in page.figures[0]["data"] if trace["meta"]["role"] == "samples")
    assert len(samples["x"]) == 5000
    assert "About 5000 of 9000 samples" in page.text
    assert (empty_run.path / "report.html").stat().st_size < 8_000_000


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
