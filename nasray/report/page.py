"""The HTML report of a run: one file that needs nothing else, for a screen, a phone, paper or a screen reader."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from nasray.records import RunDirectory
from nasray.records.files import write_whole
from nasray.report import anytime, cost_check, energy, sections
from nasray.report.frames import evaluations_frame
from nasray.report.markup import Html, element, join, json_block

if TYPE_CHECKING:
    import pandas as pd

REPORT = "report.html"


def write_report(run: RunDirectory) -> Path:
    """Write a run's report, from what its directory holds at this moment; a run that stopped early gets one too.

    Returns:
        Path of `report.html` in the run directory.

    Raises:
        RunError: If a file of the run is damaged or the report cannot be written.
    """
    path = run.path / REPORT
    write_whole(path, render(run))
    return path


def render(run: RunDirectory) -> str:
    """Return the report as HTML text."""
    frame = evaluations_frame(run.evaluations())
    figures = sections.Figures()
    body = join(
        sections.header(run.run, frame),
        element(
            "main",
            *_networks(run, frame, figures),
            cost_check.cost_check(run.read_json(cost_check.FILE), figures),
            energy.energy(run.read_json("energy.json"), run.run),
            sections.time(run.run),
            sections.repeat(run.run),
            id="content",
        ),
    )
    return html_page(title=sections.title(run.run), body=body, figures=figures)


def _networks(run: RunDirectory, frame: pd.DataFrame, figures: sections.Figures) -> list[Html]:
    """Return the sections on the networks of a run, as its method has them."""
    if run.run.get("method") == anytime.METHOD:
        return anytime.anytime(run.read_json(anytime.FILE), figures)
    found = [sections.results(run.run), sections.accuracy(run.run, frame, figures)]
    if not run.run.get("trade_offs"):  # a search without iterations and drawn networks has no use for these
        found += [sections.trajectory(frame, figures), sections.architectures(run.run)]
    return found


def html_page(*, title: str, body: Html, figures: sections.Figures) -> str:
    """Wrap the body; the scripts, whose digests the policy names, are the only ones that a browser will run."""
    scripts = [_plotly(), _asset("page.js")] if figures.drawn else []
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", _asset("page.css")),
    )
    skip = element("a", "Skip to the results", href="#content", class_="skip")
    data = json_block("figures", figures.drawn) if figures.drawn else None
    inline = [element("script", script) for script in scripts]
    page = element("html", head, element("body", skip, body, data, *inline), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def _policy(scripts: Sequence[str]) -> str:
    """Return a content security policy that lets nothing be loaded and no script run but the given ones."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _plotly() -> Html:
    from plotly.offline import get_plotlyjs

    return Html(get_plotlyjs().replace("</script", "<\\/script"))


def _asset(name: str) -> Html:
    return Html(files("nasray.report").joinpath("assets", name).read_text(encoding="utf-8"))
