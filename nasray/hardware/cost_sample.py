"""A sample of measured architectures: spread over the costs of a space, robust to noise, and continued after a stop.

Array letters: N architectures, R rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from nasray.architecture import Architecture
from nasray.hardware.table_file import SCHEMA_VERSION, append_row, mend, read_rows
from nasray.spaces.space import SearchSpace

Array = npt.NDArray[np.float64]
Measure = Callable[[Architecture], float]
"""Measures one architecture once, in the sample's unit."""
Progress = Callable[[int, int], None]
"""Called with the measurements done and those needed in all."""

_MAX_MISSES = 500
"""Draws in a row that bring nothing new, after which a space is taken to have no more."""


@dataclass(frozen=True, kw_only=True)
class CostSample:
    """Architectures of one space and what one device measured of them.

    Args:
        space: Name of the space.
        device: Name of the device, batch size and whatever else must agree for values to compare.
        unit: Of the values, such as "ms" or "mJ".
        architectures: What was measured.
        values_N: Value of each.
        noise: Median over architectures of the relative interquartile range of repeats; `None` for single values.

    Raises:
        ValueError: If numbers don't agree or a value is not positive.
    """

    space: str
    device: str
    unit: str
    architectures: Sequence[Architecture]
    values_N: Array
    noise: float | None = None

    def __post_init__(self) -> None:
        if self.values_N.shape != (len(self.architectures),):
            raise ValueError(
                f"`values_N` must have one value per architecture, got {self.values_N.shape} for "
                f"{len(self.architectures)}."
            )
        if not (np.isfinite(self.values_N) & (self.values_N > 0)).all():
            raise ValueError("`values_N` must be finite and positive. Leave out what was not measured.")
        if other := next((a.space for a in self.architectures if a.space != self.space), None):
            raise ValueError(f"`architectures` must all be of space {self.space!r}, got one of {other!r}.")

    def subset(self, indices: Sequence[int] | npt.NDArray[np.intp]) -> CostSample:
        """Return the sample of some of the architectures."""
        return CostSample(
            space=self.space,
            device=self.device,
            unit=self.unit,
            architectures=[self.architectures[int(index)] for index in indices],
            values_N=self.values_N[np.asarray(indices, dtype=np.intp)],
            noise=self.noise,
        )


def spread_architectures(
    space: SearchSpace,
    num: int,
    generator: np.random.Generator,
    *,
    proxy: Callable[[Architecture], float] | None = None,
) -> list[Architecture]:
    """Draw different architectures that reach from the small to the large ones of a space.

    Uniform choices are alike in cost, as sums of many independent terms are, so half of the candidates lean to small
    or large options to a degree that is drawn for each of them. Of ten times as many candidates those are kept that
    are spread most evenly over the proxy.

    Args:
        space: The space.
        num: How many; fewer come back if the space has no more.
        generator: Draws them.
        proxy: A quantity that is known in advance and goes with the cost, such as multiply-adds; architectures of
            which it raises ValueError are left out. `None` keeps candidates as they come.

    Raises:
        ValueError: If `num` is not positive.
    """
    if num < 1:
        raise ValueError(f"`num` must be at least 1, got {num}.")
    wanted = num if proxy is None else 10 * num
    found: dict[Architecture, float] = {}
    attempt = misses = 0
    while len(found) < wanted and misses < _MAX_MISSES:
        candidate = space.random(generator) if attempt % 2 else _leaning(space, generator)
        attempt, misses = attempt + 1, misses + 1
        if candidate in found:
            continue
        try:
            found[candidate] = 0.0 if proxy is None else proxy(candidate)
            misses = 0
        except ValueError:
            continue
    if proxy is None or len(found) <= num:
        return list(found)[:num]
    return _evenly(found, num, generator)


def measure_sample(
    space: SearchSpace,
    measure: Measure,
    *,
    num: int,
    generator: np.random.Generator,
    path: Path,
    device: str,
    unit: str = "ms",
    rounds: int = 5,
    keep: Literal["median", "minimum"] = "median",
    proxy: Callable[[Architecture], float] | None = None,
    progress: Progress | None = None,
) -> CostSample:
    """Measure a spread sample of a space, or what an earlier call with the same file did not get to.

    Every architecture is measured once in each round and a round goes in random order, so that a machine that slows
    down for a while spoils no architecture.

    Args:
        space: The space.
        measure: Measures one architecture.
        num: How many architectures.
        generator: Draws them and the order; a file that exists keeps the architectures that it names.
        path: File of the measurements, a line each.
        device: Name of the device and its settings.
        unit: Of what is measured.
        rounds: Measurements of each architecture.
        keep: What to keep of the rounds. The minimum is steadier where other programs only ever add time, as to
            latencies on a shared machine; it is wrong for what scatters to both sides, as energies do.
        proxy: As in `spread_architectures`.
        progress: Called after each measurement.

    Raises:
        ValueError: If the file is of another space, device or unit, or holds fewer architectures than asked for.
    """
    header = {"schema_version": SCHEMA_VERSION, "space": space.name, "device": device, "unit": unit}
    mend(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = spread_architectures(space, num, generator, proxy=proxy)
        append_row(path, {**header, "architectures": [dict(a.items) for a in drawn]})
    written, *rows = read_rows(path, "measured sample")
    _check_header(path, written, header)
    architectures = [space.canonical(choices) for choices in written["architectures"]][:num]
    values: list[list[float]] = [[] for _ in architectures]
    for row in rows:
        if row["index"] < len(values):
            values[row["index"]].append(row["value"])
    done = sum(min(rounds, len(own)) for own in values)
    for turn in range(rounds):
        for index in generator.permutation([i for i, own in enumerate(values) if len(own) <= turn]):
            value = float(measure(architectures[index]))
            append_row(path, {"index": int(index), "value": value})
            values[index].append(value)
            done += 1
            if progress is not None:
                progress(done, rounds * len(values))
    return _sample(space, device, unit, architectures, np.array([own[:rounds] for own in values]), keep)


def load_sample(path: Path, space: SearchSpace, *, keep: Literal["median", "minimum"] = "median") -> CostSample:
    """Read the sample of a file as far as it was measured: architectures without a value are left out.

    Raises:
        ValueError: If the file is no sample, one of another space, or without a single value.
    """
    header, *rows = read_rows(path, "measured sample")
    _check_header(path, header, {"space": space.name})
    values: dict[int, list[float]] = {}
    for row in rows:
        values.setdefault(row["index"], []).append(row["value"])
    if not values:
        raise ValueError(f"`path` must hold a measured architecture, got {path} without one. Measure first.")
    least = min(map(len, values.values()))
    chosen = sorted(values)
    architectures = [space.canonical(header["architectures"][index]) for index in chosen]
    values_NR = np.array([values[index][:least] for index in chosen])
    return _sample(space, header["device"], header["unit"], architectures, values_NR, keep)


def _sample(
    space: SearchSpace, device: str, unit: str, architectures: list[Architecture], values_NR: Array, keep: str
) -> CostSample:
    middle_N = np.median(values_NR, axis=1)
    low_N, high_N = np.percentile(values_NR, [25, 75], axis=1)
    return CostSample(
        space=space.name,
        device=device,
        unit=unit,
        architectures=architectures,
        values_N=values_NR.min(axis=1) if keep == "minimum" else middle_N,
        noise=float(np.median((high_N - low_N) / middle_N)) if values_NR.shape[1] > 1 else None,
    )


def _check_header(path: Path, written: dict[str, Any], asked: dict[str, Any]) -> None:
    for name, value in asked.items():
        if written.get(name) != value:
            raise ValueError(f"`{name}` must be {written.get(name)!r} to go on with {path}, got {value!r}.")
    if "architectures" not in written:
        raise ValueError(f"`path` must be a sample of measured architectures, got {path}. Choose another path.")


def _leaning(space: SearchSpace, generator: np.random.Generator) -> Architecture:
    """Draw options around a level between the first and the last one of each choice."""
    level = generator.random()
    choices = {}
    for name, options in space.choices.items():
        place = np.clip(level + generator.normal(scale=0.25), 0, 1) * (len(options) - 1)
        choices[name] = options[round(float(place))]
    return space.canonical(choices)


def _evenly(found: dict[Architecture, float], num: int, generator: np.random.Generator) -> list[Architecture]:
    """Keep those nearest to places that are spaced evenly over the logarithm of the proxy, each at most once."""
    candidates = list(found)
    logs_N = np.log(np.maximum(np.fromiter(found.values(), dtype=float), 1e-12))
    low, high = np.quantile(logs_N, [0.005, 0.995])
    left, kept = set(range(len(candidates))), []
    for place in generator.permutation(np.linspace(low, high, num)):
        rest = np.fromiter(left, dtype=np.intp)
        chosen = int(rest[np.abs(logs_N[rest] - place).argmin()])
        left.remove(chosen)
        kept.append(candidates[chosen])
    return kept
