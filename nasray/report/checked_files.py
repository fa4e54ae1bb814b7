"""The files of a run that a report shows, read only if they are what nasray writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from nasray.carbon.ledger import ENERGY_FILE, EnergyLedger
from nasray.reading import build, reason
from nasray.records import RunDirectory, RunError

COST_CHECK_FILE, FRONT_FILE = "cost_check.json", "front.json"


@dataclass(frozen=True, kw_only=True)
class _Network:
    arch_id: str
    label: str
    predicted: float
    measured: float
    spread: float | None

    def __post_init__(self) -> None:
        if min(self.predicted, self.measured) <= 0 or (self.spread or 0.0) < 0:
            raise ValueError(f"costs of {self.label!r} must be positive")


@dataclass(frozen=True, kw_only=True)
class _CostCheck:
    schema_version: int
    metric: str
    unit: str
    device: str
    networks: list[_Network]
    kendall_tau: float | None
    spearman_rho: float | None
    mean_absolute_percentage_error: float
    median_ratio: float

    def __post_init__(self) -> None:
        ranks = [rank for rank in (self.kendall_tau, self.spearman_rho) if rank is not None]
        if self.median_ratio <= 0 or self.mean_absolute_percentage_error < 0 or any(abs(rank) > 1 for rank in ranks):
            raise ValueError("ratio, error and rank correlations must be in their ranges")


@dataclass(frozen=True, kw_only=True)
class _Point:
    sample_id: str
    arch_id: str | None
    trial_id: str | None
    metrics: dict[str, float | None]
    costs: list[str]


@dataclass(frozen=True, kw_only=True)
class _Objective:
    name: str
    direction: str
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class _Front:
    objectives: list[_Objective]
    points: list[_Point]
    fronts: dict[str, dict[str, Any]]


def energy_account(run: RunDirectory) -> Mapping[str, Any] | None:
    """Return a run's energy account, added up anew from what its meters counted; `None` if it has none.

    Raises:
        RunError: If the file is damaged.
    """
    account = run.read_json(ENERGY_FILE)
    if account is None:
        return None
    try:
        return EnergyLedger.from_json(account).to_json()
    except ValueError as error:
        raise _damaged(run, ENERGY_FILE, error) from error


def cost_check(run: RunDirectory) -> Mapping[str, Any] | None:
    """Return what the found networks cost when they were measured again; `None` if they were not.

    Raises:
        RunError: If the file is damaged.
    """
    return _checked(run, COST_CHECK_FILE, _CostCheck)


def front(run: RunDirectory) -> Mapping[str, Any] | None:
    """Return the fronts of a run; `None` if it has none.

    Raises:
        RunError: If the file is damaged.
    """
    return _checked(run, FRONT_FILE, _Front)


@contextmanager
def explained(run: RunDirectory, name: str) -> Iterator[None]:
    """Turn what goes wrong when a file is shown whose parts are other than nasray writes them into one sentence.

    For files whose parts are too many to list here.

    Raises:
        RunError: If anything does.
    """
    try:
        yield
    except RunError:
        raise
    except KeyError as error:
        raise _damaged(run, name, ValueError(f"{error} must be there")) from error
    except (ValueError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise _damaged(run, name, error) from error


def _checked(run: RunDirectory, name: str, kind: type[Any]) -> Mapping[str, Any] | None:
    value = run.read_json(name)
    if value is None:
        return None
    try:
        return asdict(build(kind, value))
    except ValueError as error:
        raise _damaged(run, name, error) from error


def _damaged(run: RunDirectory, name: str, error: Exception) -> RunError:
    return RunError(f"{run.path / name} is damaged ({reason(error)}). Restore it from a copy or remove it.")
