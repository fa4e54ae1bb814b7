"""The HTML report of a run: one file that needs nothing else, for a screen, a phone, paper or a screen reader."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from nasray.records import RunDirectory
from nasray.records.files import write_whole
from nasray.report import anytime, checked_files, cost_check, energy, fronts, growth_section, sections, spending
from nasray.report.candidate_data import candidate_data
from nasray.report.candidates import Candidates
from nasray.report.frames import evaluations_frame
from nasray.report.markup import Html, element, join, json_block
from nasray.report.trade_offs import trade_offs_of

REPORT = "report.html"

_BY_ITERATIONS = ("netadaptv2",)
"""Methods that choose the best sample of each iteration."""


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
    rows = run.evaluations()
    account = checked_files.energy_account(run)
    candidates = Candidates.of_run(run.run, checked_files.front(run), rows)
    trade_offs = trade_offs_of(run.run, candidates)
    figures = sections.Figures()
    if candidates.rows:
        # Only what the search itself recorded is marked as its choice.
        told = fronts.marks(run.run, candidates, run.run.get("trade_offs") or [])
        figures.candidates = candidate_data(candidates, told)
    body = join(
        sections.header(run.run, rows),
        element(
            "main",
            *_networks(run, candidates, trade_offs, account, figures),
            cost_check.cost_check(checked_files.cost_check(run), run.run.get("results") or (), figures),
            energy.energy(account, run.run, figures),
            spending.spending(account, run.run, figures),
            sections.failures(rows, candidates),
            sections.time(run.run),
            sections.repeat(run.run),
            id="content",
        ),
    )
    return html_page(title=sections.title(run.run), body=body, figures=figures)


def _networks(
    run: RunDirectory,
    candidates: Candidates,
    trade_offs: Sequence[Mapping[str, Any]],
    account: Mapping[str, Any] | None,
    figures: sections.Figures,
) -> Iterator[Html | None]:
    """Return the sections on the networks of a run, as its method has them."""
    has_exits = run.run.get("method") == anytime.METHOD
    if has_exits:
        with checked_files.explained(run, anytime.FILE):
            sections_on_exits = anytime.anytime(run.read_json(anytime.FILE), figures)
        yield from sections_on_exits
    else:
        yield sections.results(run.run, trade_offs)
    yield fronts.fronts(candidates, figures)
    yield fronts.parallel(candidates, figures)
    yield growth_section.growth_section(candidates, account, figures)
    frame = evaluations_frame(candidates.rows)
    if (
        any(row.get("selected") is True for row in candidates.rows)
        or str(run.run.get("method")).lower() in _BY_ITERATIONS
    ):
        yield sections.trajectory(frame, figures)
    else:
        yield fronts.order(candidates, run.run, figures)
    if not has_exits:  # those drew their cells
        yield sections.architectures(run.run, candidates, trade_offs)


def html_page(*, title: str, body: Html, figures: sections.Figures) -> str:
    """Wrap the body; the scripts, whose digests the policy names, are the only ones that a browser will run."""
    scripts = [_plotly(), _asset("page.js")] if figures.drawn or figures.candidates else []
    if figures.candidates:
        scripts += [_asset(name) for name in ("candidates.js", "fronts.js", "parallel.js")]
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
    data = [json_block("figures", figures.drawn)] if figures.drawn else []
    data += [json_block("candidates", figures.candidates)] if figures.candidates else []
    inline = [element("script", script) for script in scripts]
    page = element("html", head, element("body", skip, body, *data, *inline), lang="en")
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
