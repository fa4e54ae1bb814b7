"""`nasray report`, `front` and `compare`: what runs have found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nasray.commands.output import shown
from nasray.records import RunDirectory
from nasray.records.front import feasible, front_summary


def report(run: Path) -> Path:
    """Write the report of a run anew, and return its path.

    Raises:
        ValueError: If there is no run, or it cannot be read or written.
    """
    from nasray.report import write_report

    return write_report(RunDirectory.open(run))


def front_rows(run: Path) -> list[dict[str, Any]]:
    """Return the networks on any front of a run: `arch_id`, the objectives, which costs' fronts they are on.

    Raises:
        ValueError: If there is no run, or it has no objectives yet.
    """
    directory = RunDirectory.open(run)
    front = front_summary(feasible(directory.evaluations(), directory.run), _objectives(directory))
    names = [objective["name"] for objective in front["objectives"]]
    rows = [
        {"arch_id": point["arch_id"], **{name: point["metrics"].get(name) for name in names}, "front": point["costs"]}
        for point in front["points"]
    ]
    best = front["objectives"][0]
    return sorted(rows, key=lambda row: row[best["name"]], reverse=best["direction"] == "maximize")


def marked(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of `front_rows` for people: a star at each cost whose front the network is on."""
    return [
        {
            name: f"{shown(name, value)} *" if name in row["front"] else value
            for name, value in row.items()
            if name != "front"
        }
        for row in rows
    ]


@dataclass(frozen=True)
class Comparison:
    """Several runs in one front.

    Args:
        rows: A row for each run: its evaluations, hypervolume and share of the common front for each cost.
        warnings: Why figures of the runs may not compare.
    """

    rows: list[dict[str, Any]]
    warnings: list[str]


def compare(runs: Sequence[Path]) -> Comparison:
    """Put runs into one front: how much of it is each run's, and what each dominates by the same reference point.

    Raises:
        ValueError: If there are fewer than two runs, or they have no quality and cost in common.
    """
    if len(runs) < 2 or len({path.resolve() for path in runs}) < len(runs):
        raise ValueError(f"`RUN...` must be at least two different runs, got {[str(path) for path in runs]}.")
    directories = [RunDirectory.open(path) for path in runs]
    objectives = _common([_objectives(directory) for directory in directories])
    names = _names(runs)
    evaluations = [
        {**row, "run": name}
        for name, directory in zip(names, directories, strict=True)
        for row in feasible(directory.evaluations(), directory.run)
    ]
    together = front_summary(evaluations, objectives)
    rows = []
    for name, directory in zip(names, directories, strict=True):
        own = [row for row in evaluations if row["run"] == name and _competes(row)]
        row: dict[str, Any] = {"run": name, "method": directory.run["method"]}
        row["evaluations"] = len(directory.evaluations())
        for cost in objectives[1:]:
            row[f"front of {cost['name']}"] = _share(own, together, (objectives[0]["name"], cost["name"]))
            row[f"hypervolume, {cost['name']}"] = _hypervolume(own, together, objectives[0], cost)
        rows.append(row)
    return Comparison(rows, list(_warnings(names, directories)))


def _objectives(directory: RunDirectory) -> list[dict[str, Any]]:
    front = directory.read_json("front.json") or {}
    wanted = (directory.run.get("configuration") or {}).get("objectives") or []
    for known in (front.get("objectives"), directory.run.get("front_objectives"), wanted):
        if known and all(isinstance(objective, dict) for objective in known):
            if len(known) < 2:
                raise ValueError(f"{directory.path} must have a quality and a cost for a front, got one objective.")
            return list(known)
    raise ValueError(
        f"{directory.path} has no front yet: it has not come to its search. Go on with it: nasray resume "
        f"{directory.path}"
    )


def _common(each: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the first run's objectives that all have."""
    names = [{objective["name"] for objective in objectives} for objectives in each]
    shared = [objective for objective in each[0] if all(objective["name"] in known for known in names)]
    if len(shared) < 2 or shared[0]["name"] != each[0][0]["name"]:
        listed = "; ".join(", ".join(objective["name"] for objective in objectives) for objectives in each)
        raise ValueError(f"Runs to compare must share their quality and a cost, got the objectives {listed}.")
    return shared


def _competes(row: Mapping[str, Any]) -> bool:
    """Whether an evaluation may be on a front: accuracies of another stage are of other weights or images."""
    return (row["status"], row.get("stage", "search")) == ("ok", "search")


def _share(rows: Sequence[Mapping[str, Any]], together: Mapping[str, Any], names: tuple[str, str]) -> str:
    """Return how many points of the common front a run has found; what two runs have found counts for both."""

    def values(row: Mapping[str, Any]) -> tuple[Any, Any]:
        return row["metrics"].get(names[0]), row["metrics"].get(names[1])

    points = {values(point) for point in together["points"] if names[1] in point["costs"]}
    found = {values(row) for row in rows}
    return f"{len(points & found)} of {len(points)}"


def _hypervolume(
    rows: Sequence[dict[str, Any]], together: dict[str, Any], quality: dict[str, Any], cost: dict[str, Any]
) -> float | None:
    """Return what a run dominates up to the worst values of all runs; None if no run has both figures."""
    from nasray.pareto import hypervolume

    signs = [1.0 if o["direction"] == "minimize" else -1.0 for o in (quality, cost)]
    reference = together["fronts"][cost["name"]]["reference_point"]
    if reference is None:
        return None
    at = [sign * reference[o["name"]] for sign, o in zip(signs, (quality, cost), strict=True)]
    points = [
        [sign * row["metrics"][o["name"]] for sign, o in zip(signs, (quality, cost), strict=True)]
        for row in rows
        if all(row["metrics"].get(o["name"]) is not None for o in (quality, cost))
    ]
    return hypervolume(points, at) if points else 0.0


def _warnings(names: Sequence[str], directories: Sequence[RunDirectory]) -> Iterator[str]:
    """Tell, a sentence each, what runs must share for their figures to compare and do not."""
    for what, keys in (
        ("data", ("data", "fingerprint")),
        ("machine", ("machine", "hostname")),
        ("processor", ("machine", "cpu_model")),
        ("GPUs", ("machine", "gpus")),
        ("version of nasray", ("versions", "nasray")),
    ):
        found = {name: _at(directory.run, keys) for name, directory in zip(names, directories, strict=True)}
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{name}: {value}" for name, value in found.items())
            yield f"The runs differ in their {what} ({listed}); measured figures may not compare."


def _at(value: Any, keys: Sequence[str]) -> str:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return str(value)


def _names(runs: Sequence[Path]) -> list[str]:
    """Return the folders' names, or their paths where two are alike."""
    names = [path.resolve().name for path in runs]
    return names if len(set(names)) == len(names) else [str(path) for path in runs]
