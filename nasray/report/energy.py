"""The report's section on energy and CO2: by stage, by node, beside the bill and beside codecarbon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nasray.carbon.bill import duration
from nasray.report.markup import Html, element
from nasray.report.quantities import MISSING
from nasray.report.tables import table

_J_PER_KWH = 3.6e6
_PARTS = ("trials_j", "other_j", "idle_j", "node_j")


def energy(account: Mapping[str, Any] | None, run: Mapping[str, Any]) -> Html | None:
    """Show what the run used; `None` without an account.

    Args:
        account: Content of the run's `energy.json`.
        run: Content of its `run.json`, with the bill and the break-even points if it has them.
    """
    if not account or not account.get("nodes"):
        return None
    parts = [element("p", sentence) for sentence in _sentences(account, run)]
    return element(
        "section",
        element("h2", "Energy and CO2"),
        *parts,
        _stages_table(account["stages"]),
        element("details", element("summary", "Every node"), _nodes_table(account["nodes"])),
        element(
            "p",
            f"Not covered: {', '.join(account['not_covered'])}. Other is work that is not this run's; idle is what "
            "nobody reserved. The calibration before the search and measurements after it are not in it.",
            class_="note",
        ),
    )


def _sentences(account: Mapping[str, Any], run: Mapping[str, Any]) -> Iterator[str]:
    factors, stages = account["factors"], account["stages"].values()
    energies = [stage["energy_j"] for stage in stages]
    used = "an unknown amount of energy" if None in energies else _kwh(sum(energies))
    carbon = "" if None in energies else f" and {_carbon(sum(stage['carbon_g'] for stage in stages))}"
    worst = sorted({stage["quality"] for stage in stages})
    pue = f", PUE {factors['pue']:g}" if factors["pue"] != 1 else ""
    yield (
        f"The run used {used}{carbon} in {duration(account['hours'])} (energy {', '.join(worst)}; "
        f"{factors['intensity_g_per_kwh']:g} g CO2e/kWh, {factors['intensity_source']}{pue})."
    )
    if bill := run.get("bill"):
        total = bill["total"]
        announced = "an unknown energy" if total["energy_j"] is None else _kwh(total["energy_j"])
        yield f"Announced before the search were {announced} and {duration(total['hours'])} ({bill['calibration']})."
    yield from run.get("break_even", ())
    yield from _cross_checks(account["nodes"])


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
            MISSING if stage["energy_j"] is None else _kwh(stage["energy_j"]),
            MISSING if stage["carbon_g"] is None else _carbon(stage["carbon_g"]),
            stage["quality"],
            str(stage["num_attempts"]),
        ]
        for name, stage in stages.items()
    ]
    return table(
        ["Stage", "Energy", "CO2e", "Quality", "Leases"], rows, caption="Energy charged to each stage", num_text=1
    )


def _nodes_table(nodes: Mapping[str, Any]) -> Html:
    rows: list[Sequence[object]] = []
    for name, node in nodes.items():
        for domain, values in node["domains"].items():
            figures = [MISSING if values[part] is None else _kwh(values[part]) for part in _PARTS]
            rows.append([element("code", name[:8]), domain, *figures, values["quality"], values["source"]])
    heads = ["Node", "Domain", "Run", "Other", "Idle", "Node's total", "Quality", "Source"]
    return table(heads, rows, caption="Run + other + idle = total, in each domain of each node", num_text=2)


def _kwh(energy_j: float) -> str:
    return f"{energy_j / _J_PER_KWH:.3g} kWh" if energy_j >= 3.6e4 else f"{energy_j / 3.6e3:.3g} Wh"


def _carbon(carbon_g: float) -> str:
    return f"{carbon_g / 1e3:.3g} kg CO2e" if carbon_g >= 1e3 else f"{carbon_g:.3g} g CO2e"
