"""What searches cost: GPU hours as the papers print them, with their energy and CO2; more from a CSV file.

A paper's GPU hours are rarely for the same thing as another's: see each method's note. What is not printed is None.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nasray.carbon.fu2021 import PAPER, Factors, carbon_kg, energy_wh, strubell_lb
from nasray.carbon.fu2021_gpus import GPU_POWERS, gpu_power_w
from nasray.reading import cut

REQUIRED_COLUMNS = ("name", "gpu_hours", "source")
OPTIONAL_COLUMNS = ("gpu_type", "gpu_power_w", "top1_accuracy", "macs", "note")


@dataclass(frozen=True, kw_only=True)
class SearchMethod:
    """A search, or a network known for the search that found it.

    Args:
        name: Its name.
        gpu_hours: Hours times GPUs; None where no paper prints them.
        gpu_type: One of `GPU_POWERS`; None where not said, which counts as a V100.
        gpu_power_w: Rated power of one GPU, for a type that is not listed.
        top1_accuracy: On ImageNet, as a fraction.
        macs: Multiply-adds of one inference of the network found.
        source: Where the figures are from.
        note: What to know before comparing.

    Raises:
        ValueError: If a figure is out of its range, or the GPU is not known and has no power.
    """

    name: str
    gpu_hours: float | None = None
    gpu_type: str | None = None
    gpu_power_w: float | None = None
    top1_accuracy: float | None = None
    macs: float | None = None
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        if not self.name or not self.source:
            raise ValueError("`name` and `source` must not be empty. Say what the search is and who says what it cost.")
        for name in ("gpu_hours", "gpu_power_w", "macs"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"`{name}` must be a positive number, got {value}. Leave out what is not known.")
        if self.top1_accuracy is not None and not 0 < self.top1_accuracy <= 1:
            raise ValueError(f"`top1_accuracy` must be a fraction as 0.77, got {self.top1_accuracy}.")
        if self.gpu_power_w is None:
            gpu_power_w(self.gpu_type)

    @property
    def power_w(self) -> float:
        """Rated power of one GPU."""
        return gpu_power_w(self.gpu_type) if self.gpu_power_w is None else self.gpu_power_w


@dataclass(frozen=True, kw_only=True)
class SearchCost:
    """What a search of known GPU hours cost.

    Args:
        name: The method.
        gpu_hours: Hours times GPUs.
        energy_wh: By eq. 1 of Fu et al., overhead included.
        carbon_kg: By eq. 2 of Fu et al.
        strubell_lb: CO2 in pounds as NetAdaptV2's Table 1 counts it, whatever the GPU.
    """

    name: str
    gpu_hours: float
    energy_wh: float
    carbon_kg: float
    strubell_lb: float


def search_cost(method: SearchMethod, *, factors: Factors = PAPER) -> SearchCost | None:
    """Return the cost of a search; None where its GPU hours are not known.

    Source: Fu et al. 2021, eq. 1 and 2; Yang et al. 2021, appendix E. Deviation: none.
    """
    if method.gpu_hours is None:
        return None
    wh = energy_wh(method.gpu_hours, gpu_power_w=method.power_w, factors=factors)
    return SearchCost(
        name=method.name,
        gpu_hours=method.gpu_hours,
        energy_wh=wh,
        carbon_kg=carbon_kg(wh, factors=factors),
        strubell_lb=strubell_lb(method.gpu_hours),
    )


def read_methods(path: Path, *, known: Iterable[SearchMethod] = ()) -> list[SearchMethod]:
    """Read more methods from a CSV file.

    Its first line names the columns: `name`, `gpu_hours` and `source`, and any of `gpu_type`, `gpu_power_w`,
    `top1_accuracy` (a fraction, on ImageNet), `macs` and `note`. A cell that is empty says "not known".

    Args:
        path: The file.
        known: Methods whose names are taken.

    Raises:
        ValueError: If the file cannot be read, or the columns or a line are wrong; the message names the line.
    """
    taken = {method.name for method in known}
    methods: list[SearchMethod] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(path, reader.fieldnames or ())
            for row in reader:
                method = _read_row(row, f"{path}, line {reader.line_num}")
                if method.name in taken:
                    raise ValueError(f"{path}, line {reader.line_num}: {method.name!r} is there already. Rename it.")
                taken.add(method.name)
                methods.append(method)
    except OSError as error:
        raise ValueError(f"{path} must be a file that can be read ({error.strerror}). Check the path.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a CSV file in UTF-8 ({error}). Save it as one.") from error
    if not methods:
        raise ValueError(f"{path} must hold a method, got none. Add a line below the column names.")
    return methods


def _check_columns(path: Path, columns: Sequence[str]) -> None:
    valid = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    unknown = [name for name in columns if name not in valid]
    if missing or unknown or len(set(columns)) < len(columns):
        raise ValueError(
            f"{path}, line 1: the columns must be {', '.join(REQUIRED_COLUMNS)}, and may be "
            f"{', '.join(OPTIONAL_COLUMNS)}, each once, got {cut(', '.join(columns)) or 'none'}."
        )


def _read_row(row: Mapping[str | None, str | None], place: str) -> SearchMethod:
    if None in row or None in row.values():
        raise ValueError(f"{place}: must have as many cells as there are columns. Quote text that holds commas.")
    cells = {str(name): str(cell).strip() for name, cell in row.items()}
    try:
        return SearchMethod(
            name=cells["name"],
            gpu_hours=_number(cells, "gpu_hours"),
            gpu_type=_known_type(cells.get("gpu_type", ""), cells.get("gpu_power_w", "")),
            gpu_power_w=_number(cells, "gpu_power_w"),
            top1_accuracy=_number(cells, "top1_accuracy"),
            macs=_number(cells, "macs"),
            source=cells["source"],
            note=cells.get("note", ""),
        )
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _known_type(gpu_type: str, power: str) -> str | None:
    """Return the type, and say what to do in the file's own words where it is unknown."""
    if gpu_type and not power and gpu_type.casefold() not in {name.casefold() for name in GPU_POWERS}:
        raise ValueError(
            f"`gpu_type` must be one of {', '.join(GPU_POWERS)}, got {gpu_type!r}. Or give a column gpu_power_w."
        )
    return gpu_type or None


def _number(cells: Mapping[str, str], column: str) -> float | None:
    text = cells.get(column, "")
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"`{column}` must be a number or empty, got {text!r}.") from None
