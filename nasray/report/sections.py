"""The report's sections, each from the run's record; what was not recorded is said in a sentence."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nasray.causes import Cause, causes_of
from nasray.records.identity import flatten
from nasray.report import tables
from nasray.report.architecture_drawing import draw_architecture, legend, summarize_layers
from nasray.report.candidate_data import choices_of
from nasray.report.candidates import Candidates
from nasray.report.figures import trajectory_figure
from nasray.report.frames import ALL_TRIALS, search_samples, trajectory_rows
from nasray.report.markup import Html, element
from nasray.report.network_drawing import draw_choices
from nasray.report.quantities import format_duration, format_metric, format_share, format_time, quantity

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_STATUS_SENTENCES = {
    "running": "The run had not finished when this report was written; it shows what was recorded until then.",
    "interrupted": "The run was interrupted; the report shows what was recorded until then.",
    "failed": "The run failed; the report shows what was recorded until then.",
}


class Figures:
    """Collects the page's plots: their data for the script, and their places with controls for the body.

    Attributes:
        drawn: Ready-made plots, as plotly's JSON.
        candidates: What the scripts draw the other plots from; empty without such plots.
    """

    def __init__(self) -> None:
        self.drawn: list[dict[str, Any]] = []
        self.candidates: dict[str, Any] = {}

    def built(self, kind: str, label: str) -> Html:
        """Return the place of a plot that the page's script builds from the candidates.

        Args:
            kind: Which one: "pair", "parallel" or "order".
            label: What it shows, for who cannot see it.
        """
        plot = element("div", id=f"plot-{kind}", data_plot=kind, class_="plot", role="img", aria_label=label)
        return element("figure", plot, _no_script())

    def place(self, figure: go.Figure, label: str) -> Html:
        """Add a figure and return its place, with a selector for each choice that it offers.

        Args:
            figure: Its `layout.meta` names the choices: `costs` and `trials`.
            label: What the figure shows, for who cannot see it.
        """
        figure_id = f"figure-{len(self.drawn)}"
        choices = figure.layout.meta
        self.drawn.append({"id": figure_id, **figure.to_plotly_json()})
        costs = [(name, axis["title"]) for name, axis in choices.get("costs", {}).items()]
        trials = [(ALL_TRIALS, "All trials"), *((trial, trial) for trial in choices["trials"])]
        return element(
            "figure",
            element(
                "div",
                _selector(figure_id, "cost", "Cost", costs) if len(costs) > 1 else None,
                _selector(figure_id, "trial", "Trial", trials) if len(trials) > 2 else None,
                class_="controls",
            ),
            element("div", id=figure_id, class_="plot", role="img", aria_label=label),
            _no_script(),
        )


def _no_script() -> Html:
    return element("noscript", "The plot needs a browser with scripts; the tables hold the same figures.")


def title(run: Mapping[str, Any]) -> str:
    """Return the page's title."""
    return f"{run.get('method')} on {run.get('data', {}).get('name', 'unnamed data')}"


def header(run: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Html:
    """Say what ran, when, how it ended, what to beware of and, in a sentence each, what was found."""
    status = str(run.get("status"))
    seconds = sum(stage["seconds"] for stage in run.get("stages", []))
    facts = (
        ("Preset", run.get("preset")),
        ("Data set", run.get("data", {}).get("name", "not recorded")),
        ("Started", format_time(run.get("created"))),
        ("Last written", format_time(run.get("updated"))),
        ("Time of all stages", format_duration(seconds) if seconds else "not recorded"),
        ("Evaluations", f"{len(rows):,}, of {len({row.get('arch_id') for row in rows}):,} different networks"),
    )
    warnings = [_STATUS_SENTENCES[status]] if status in _STATUS_SENTENCES else []
    warnings += run.get("notices", [])
    found = [element("li", sentence) for sentence in summary_sentences(run.get("results", []))]
    return element(
        "header",
        element("h1", title(run), " ", element("span", status, class_=f"status {status}")),
        element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in facts)),
        _notices(warnings),
        element("ul", *found, class_="summary") if found else None,
    )


def summary_sentences(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say what each found network costs and how accurate it is, against the initial one."""
    initial = tables.initial_result(results)
    for row in results:
        if row is initial:
            continue
        is_tested = all(side.get("test_accuracy") is not None for side in (row, initial))
        measure = "test_accuracy" if is_tested else "accuracy_supernet"
        name = str(row.get("cost_name"))
        parts = [f"{row.get('label')}:"]
        if row.get(measure) is not None:
            kind = "test accuracy" if is_tested else "accuracy in the search"
            parts.append(f"{format_metric(measure, row[measure])} {kind}")
            if initial.get(measure) is not None:
                parts.append(f"({100 * (row[measure] - initial[measure]):+.2f} points)")
        if row.get(name) is not None:
            parts.append(
                f"at {format_metric(name, row[name])}{'' if quantity(name).unit else ' ' + quantity(name).label}"
            )
            if initial.get(name):
                parts.append(f"({format_share(row[name], initial[name])} of the initial network)")
        yield " ".join(parts) + "."


def results(run: Mapping[str, Any], trade_offs: Sequence[Mapping[str, Any]]) -> Html:
    """Show the results, or else the best networks and trade-offs."""
    rows = run.get("results", [])
    if not rows and trade_offs:
        return _section("Results", tables.trade_offs_table(trade_offs))
    if not rows:
        return _section("Results", _empty("No result was recorded before the run stopped."))
    return _section("Results", tables.results_table(rows))


def failures(rows: Sequence[Mapping[str, Any]], candidates: Candidates) -> Html:
    """Tell why evaluations failed or may not be had, with an example of each reason and what may help."""
    if not rows:
        return _section("Failures", _empty("No evaluations were recorded before the run stopped."))
    causes = [*causes_of(rows), *_broken_limits(candidates)]
    if not causes:
        return _section("Failures", _empty(f"None of the {len(rows):,} evaluations failed or was infeasible."))
    num_failed = sum(cause.count for cause in causes if cause.status == "failed")
    num_infeasible = sum(kind == "infeasible" for kind in candidates.kinds)
    text = f"Of {len(rows):,} evaluations, {num_failed:,} failed and {num_infeasible:,} were infeasible."
    return _section("Failures", element("p", text), tables.causes_table(causes, len(rows)))


def _broken_limits(candidates: Candidates) -> Iterator[Cause]:
    """Count the candidates that were evaluated well and break a constraint."""
    for limit in candidates.constraints:
        evaluated = (row for row in candidates.rows if row.get("status") == "ok")
        ids = [str(row.get("arch_id")) for row in evaluated if limit in candidates.broken(row)]
        if ids:
            remedy = "None is needed: the search learns to meet its constraints."
            yield Cause(status="infeasible", reason=f"not {limit}", count=len(ids), arch_id=ids[0], remedy=remedy)


def trajectory(frame: pd.DataFrame, figures: Figures) -> Html:
    """Show each search's way: budget, cost and accuracy of the best sample over the iterations."""
    path = trajectory_rows(search_samples(frame))
    if path.empty:
        return _section("Trajectory", _empty("No iteration had chosen its best sample before the run stopped."))
    costs = [str(name) for name in path["cost_name"].unique()]
    drawn = [(cost, trajectory_figure(frame, cost)) for cost in costs]
    return _section(
        "Trajectory",
        *(
            figures.place(figure, f"Accuracy and {quantity(cost).label} over the iterations; tabulated below.")
            for cost, figure in drawn
            if figure is not None
        ),
        _details("The best sample of each iteration", tables.iterations_table(frame)),
    )


def architectures(run: Mapping[str, Any], candidates: Candidates, trade_offs: Sequence[Mapping[str, Any]]) -> Html:
    """Draw the network of every result, else those of the best trade-offs; the first that was found is unfolded."""
    rows = [row for row in run.get("results", []) if row.get("layers")]
    if not rows:
        drawn = list(_chosen_networks(candidates, trade_offs))
        return _section("Networks", *(drawn or [_empty("No network was recorded layer by layer.")]))
    is_found = [row.get("label") != "initial" for row in rows]
    first = is_found.index(True) if True in is_found else 0
    drawings = [
        _details(
            f"{row.get('label')}: {summarize_layers(row['layers'])}",
            draw_architecture(row["layers"], caption=f"{row.get('label')}: network {row.get('arch_id')}"),
            is_open=index == first,
        )
        for index, row in enumerate(rows)
    ]
    return _section("Networks", legend(), *drawings)


def _chosen_networks(candidates: Candidates, trade_offs: Sequence[Mapping[str, Any]]) -> Iterator[Html]:
    """Draw each network of the trade-offs once, from its choices."""
    labels: dict[str, list[str]] = {}
    for row in trade_offs:
        labels.setdefault(str(row["arch_id"]), []).append(str(row["network"]))
    known = {str(row.get("arch_id")): row for row in candidates.rows if choices_of(row)}
    for arch_id in filter(known.__contains__, labels):
        names, metrics = "; ".join(labels[arch_id]), known[arch_id].get("metrics") or {}
        figures = [
            f"{quantity(goal.name).label} {format_metric(goal.name, metrics.get(goal.name))}"
            for goal in candidates.measured
        ]
        drawing = draw_choices(choices_of(known[arch_id]), caption=f"Network {arch_id}: {', '.join(figures)}")
        yield _details(f"{names[:1].upper()}{names[1:]}", drawing, is_open=arch_id == next(iter(labels)))


def time(run: Mapping[str, Any]) -> Html:
    """Show how long each stage took."""
    stages = run.get("stages", [])
    content = tables.stages_table(stages) if stages else _empty("No stage had finished before the run stopped.")
    return _section("Time", content)


def repeat(run: Mapping[str, Any]) -> Html:
    """List everything that it takes to repeat the run."""
    command = run.get("command")
    if isinstance(command, list):
        command = shlex.join(map(str, command))
    names = ("method", "preset", "seed", "git_commit", "configuration_digest")
    general = [(name, run[name]) for name in names if run.get(name) is not None]
    groups = (("data", "Data"), ("configuration", "Configuration"), ("versions", "Versions"), ("machine", "Machine"))
    return _section(
        "To repeat this run",
        element("pre", command, tabindex="0") if command else None,
        tables.facts_table(general, caption="Run"),
        *(tables.facts_table(flatten(run.get(name, {})), caption=caption) for name, caption in groups),
    )


def _section(heading: str, *content: object) -> Html:
    return element("section", element("h2", heading), *content)


def _details(summary: str, content: Html, *, is_open: bool = False) -> Html:
    return element("details", element("summary", summary), content, open=is_open)


def _empty(sentence: str) -> Html:
    return element("p", sentence, class_="empty")


def _notices(sentences: Sequence[str]) -> Html | None:
    if not sentences:
        return None
    items = element("ul", *(element("li", sentence) for sentence in sentences))
    return element("aside", element("strong", "Please note"), items, class_="notices", aria_label="Notices")


def _selector(figure_id: str, kind: str, label: str, options: Sequence[tuple[str, str]]) -> Html:
    choices = [element("option", text, value=value) for value, text in options]
    return element("label", label, " ", element("select", *choices, data_figure=figure_id, data_choice=kind))
