"""Markup in any text of a run's files is shown as text: the page has the elements that it has without."""

import json
import re
from collections import Counter
from html.parser import HTMLParser

import contract
import pytest
from sample_runs import made

from nasray.records import RunDirectory
from nasray.report.page import render

PAYLOADS = (
    "<script>alert(1)</script>",
    '"><img src=https://example.org/x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</script><script>alert(1)</script>",
    "</style><link rel=stylesheet href=https://example.org/x.css>",
    "javascript:alert(1)",
    "<a href='javascript:alert(1)'>x</a>",
    "<!--",
    "--><svg onload=alert(1)>",
    "]]><x>",
    "&lt;script&gt;",
    "url(https://example.org/x)",
    "@import 'https://example.org/x.css';",
    "\u2028</script\u2029>",
    "<base href=//example.org>",
    "</title></head><body onload=alert(1)>",
    "${alert(1)}{{7*7}}",
    "[bold]x[/bold]",
)
KEPT = ("status", "quality", "stage", "closed_by", "direction", "created", "updated", "started", "method", "sample_id")
"""Texts that must be one of a few, or by which rows are told apart."""


class Elements(HTMLParser):
    """Counts a page's elements with the names of their attributes, and keeps what scripts and attributes hold."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.found, self.attributes, self.scripts, self.data, self._into = Counter(), [], [], [], None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found[tag, *sorted(name for name, _ in attributes)] += 1
        self.attributes += attributes
        if tag == "script":
            self._into = self.data if ("type", "application/json") in attributes else self.scripts

    def handle_endtag(self, tag):
        self._into = None

    def handle_data(self, data):
        if self._into is not None:
            self._into.append(data)


def with_texts(value, text, key=""):
    """Put a text, numbered so that different ones stay different, in place of every text of a document."""
    if isinstance(value, dict):
        return {name: with_texts(part, text, name) for name, part in value.items()}
    if isinstance(value, list):
        return [with_texts(part, text, key) for part in value]
    return f"{text} {value}" if isinstance(value, str) and key not in KEPT else value


def written(folder, text):
    run = made(folder)
    for name in ("run.json", "cost_check.json", "energy.json"):
        path = run.path / name
        document = json.loads(path.read_text())
        path.write_text(json.dumps(with_texts(document, text)))
    lines = [json.loads(line) for line in (run.path / "evaluations.jsonl").read_text().splitlines()]
    for line in lines:
        line["metrics"][f"cost {text}"] = 1.0
        line["reason"] = "x"
    (run.path / "evaluations.jsonl").write_text("".join(json.dumps(with_texts(line, text)) + "\n" for line in lines))
    return Elements(render(RunDirectory.open(run.path)))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return written(tmp_path_factory.mktemp("harmless") / "run", "text")


@pytest.mark.parametrize("payload", PAYLOADS)
def test_markup_adds_no_element_and_loads_nothing(harmless, payload, tmp_path):
    page = written(tmp_path / "run", payload)
    assert page.found == harmless.found
    for data in page.data:
        assert json.loads(data) and "<" not in data
    assert page.scripts == harmless.scripts, "what runs is what the policy names"
    for name, value in page.attributes:
        assert not name.startswith("on"), name
        if name in ("src", "href", "action", "formaction", "data", "poster", "srcset"):
            assert value.startswith("#"), (name, value)
        if name == "style":
            assert not re.search(r"url\(|@import|expression", value), value
    contract.TALLY["text with markup in a report"]["accepted"] += 1
