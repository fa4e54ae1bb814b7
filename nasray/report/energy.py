"""The report's section on energy and CO2: by stage, by node, and beside codecarbon."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasray.carbon.bill import duration
from nasray.carbon.lease import OVERHEAD
from nasray.report.energy_figures import Part, nodes_figure, stages_figure
from nasray.report.markup import Html, element
from nasray.report.quantities import MISSING, format_carbon, format_energy
from nasray.report.sections import Figures
from nasray.report.tables import table

_MOST_BARS = 40
_MEANINGS = {
    "measured": "read from the hardware's counters",
    "attributed": "a share of what counters read",
    "estimated": "from load and nominal power, no counter",
    "unavailable": "unknown, and in no sum",
}


def energy(account: Mapping[str, Any] | None, run: Mapping[str, Any], figures: Figures) -> Html | None:
    """Show what the run used; `None` without an account.

    Args:
        account: Content of the run's `energy.json`.
        run: Content of its `run.json`, with the bill if it has one.
        figures: Takes the plots.
    """
    if not account or not account.get("nodes"):
        return None
    parts = node_parts(account)
    known = [part for part in parts if part.node_j is not None]
    shown = sorted(known, key=lambda part: -(part.node_j or 0.0))[:_MOST_BARS]
    return element(
        "section",
        element("h2", "Energy and CO2"),
        *(element("p", sentence) for sentence in _sentences(account)),
        element("h3", "Where the energy of each node went"),
        element("p", _nodes_sentence(parts, len(shown)), class_="note"),
        figures.place(nodes_figure(shown), "Energy of each node by part, with its quality; tabulated below.")
        if shown
        else None,
        element("details", element("summary", "Every node"), _nodes_table(account["nodes"], parts)),
        element("h3", "What each stage was charged"),
        figures.place(
            stages_figure(account["stages"], (run.get("bill") or {}).get("stages") or ()),
            "Energy charged to each stage, and what was announced; tabulated below.",
        ),
        _stages_table(account["stages"]),
        element(
            "p",
            f"Not covered: {', '.join(account['not_covered'])}. Overhead is the process that steers the search; other "
            "is work that is not this run's; idle is what nobody reserved. The calibration before the search and "
            "measurements after it are not in it.",
            class_="note",
        ),
    )


def node_parts(account: Mapping[str, Any]) -> list[Part]:
    """Return where the energy of each node and domain went, trials and overhead apart."""
    parts = []
    for node, content in account["nodes"].items():
        for domain, values in content["domains"].items():
            overhead_j = _overhead_j(account, node, domain)
            trials_j = values["trials_j"]
            parts.append(
                Part(
                    node=node,
                    domain=domain,
                    node_j=values["node_j"],
                    trials_j=None if trials_j is None else max(0.0, trials_j - overhead_j),
                    overhead_j=None if trials_j is None else min(overhead_j, trials_j),
                    other_j=values["other_j"],
                    idle_j=values["idle_j"],
                    quality=values["quality"],
                    source=values["source"],
                )
            )
    return parts


def _overhead_j(account: Mapping[str, Any], node: str, domain: str) -> float:
    """Return what the steering process on a node used, in J, as far as it is known."""
    leases = (
        lease["energy"]
        for meter in account.get("meters") or ()
        if meter.get("node") == node
        for lease in (meter.get("leases") or {}).values()
    )
    own = (lease["domains"].get(domain) or {} for lease in leases if lease["owner"] == OVERHEAD)
    return math.fsum(values.get("energy_j") or 0.0 for values in own)


def total_energy_j(account: Mapping[str, Any] | None) -> float | None:
    """Return what a run used in all its stages, in J; None without an account or where a stage is unknown."""
    energies = [stage["energy_j"] for stage in ((account or {}).get("stages") or {}).values()]
    return math.fsum(energies) if energies and None not in energies else None


def _sentences(account: Mapping[str, Any]) -> Iterator[str]:
    factors, stages = account["factors"], account["stages"].values()
    energy_j = total_energy_j(account)
    carbon_g = [stage["carbon_g"] for stage in stages]
    used = "an unknown amount of energy" if energy_j is None else format_energy(energy_j)
    carbon = "" if energy_j is None or None in carbon_g else f" and {format_carbon(math.fsum(carbon_g))}"
    worst = sorted({stage["quality"] for stage in stages})
    pue = f", PUE {factors['pue']:g}" if factors["pue"] != 1 else ""
    yield (
        f"The run used {used}{carbon} in {duration(account['hours'])} (energy {', '.join(worst)}; "
        f"{factors['intensity_g_per_kwh']:g} g CO2e/kWh, {factors['intensity_source']}{pue})."
    )
    for nodes in (account.get("total") or {}).get("shared_machines") or ():
        yield (
            f"Nodes {', '.join(node[:8] for node in nodes)} are containers of one machine, and each shows all of it: "
            "their other and idle energy count it several times."
        )
    yield from _cross_checks(account["nodes"])


def _nodes_sentence(parts: Sequence[Part], num_shown: int) -> str:
    present = [quality for quality in _MEANINGS if any(part.quality == quality for part in parts)]
    meanings = "; ".join(f"{quality} is {_MEANINGS[quality]}" for quality in present)
    rest = sum(part.node_j is not None for part in parts) - num_shown
    more = f" The {num_shown} largest are drawn, {rest} more are in the table." if rest > 0 else ""
    unknown = sum(part.node_j is None for part in parts)
    lacking = f" {unknown} unknown bars are left out." if unknown > 1 else ""
    lacking = " One bar is unknown and left out." if unknown == 1 else lacking
    return f"Hatching tells the quality: {meanings}.{lacking}{more}"


def _cross_checks(nodes: Mapping[str, Any]) -> Iterator[str]:
    for name, node in nodes.items():
        check = node.get("cross_check") or {}
        known = {
            domain: values["relative_difference"]
            for domain, values in check.get("domains", {}).items()
            if values["relative_difference"] is not None
        }
        if known:
            differences = ", ".join(f"{domain} {100 * value:+.1f} %" for domain, value in known.items())
            yield f"Against {check['source']} on node {name[:8]}, the account differs by: {differences}."


def _stages_table(stages: Mapping[str, Any]) -> Html:
    rows = [
        [
            name,
            MISSING if stage["energy_j"] is None else format_energy(stage["energy_j"]),
            MISSING if stage["carbon_g"] is None else format_carbon(stage["carbon_g"]),
            stage["quality"],
            str(stage["num_attempts"]),
        ]
        for name, stage in stages.items()
    ]
    return table(
        ["Stage", "Energy", "CO2e", "Quality", "Leases"], rows, caption="Energy charged to each stage", num_text=1
    )


def _nodes_table(nodes: Mapping[str, Any], parts: Sequence[Part]) -> Html:
    rows: list[Sequence[object]] = []
    for part in parts:
        energies = (part.trials_j, part.overhead_j, part.other_j, part.idle_j, part.node_j)
        figures = [MISSING if energy_j is None else format_energy(energy_j) for energy_j in energies]
        ended = nodes[part.node].get("ended")
        node = element("code", part.node[:8], f" until {ended}" if ended else "")
        rows.append([node, part.domain, *figures, part.quality, part.source])
    heads = ["Node", "Domain", "Trials", "Overhead", "Other", "Idle", "Node's total", "Quality", "Source"]
    caption = "Trials + overhead + other + idle = total, in each domain of each node"
    return table(heads, rows, caption=caption, num_text=2)
