"""The energy account of an experiment: its ledger, what has been spent, and what may be."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nasray.carbon.budget import Budget, Spending
from nasray.carbon.intensity import CarbonIntensity
from nasray.carbon.lease import OVERHEAD, Lease
from nasray.carbon.ledger import EnergyLedger
from nasray.carbon.node_meter import NodeMeter

_REFRESH_S = 1.0
_MOST_RESERVED = 0.8
_REFRESH_SHARE, _WRITE_SHARE = 0.05, 0.01
"""Most of the process's time that goes into fetching and writing figures."""


class EnergyAccount(abc.ABC):
    """Keeps account of an experiment's energy. Use it as a context.

    Args:
        intensity: Carbon per energy at the place.
        pue: Power usage effectiveness of the place, at least 1.
        budget: What the experiment may use.
        folder: Where to keep `energy.json` and `emissions.csv`; an account that is there goes on. None keeps none.

    Raises:
        ValueError: If `pue` is less than 1, or the account in the folder is damaged.
    """

    def __init__(
        self,
        intensity: CarbonIntensity,
        *,
        pue: float = 1.0,
        budget: Budget | None = None,
        folder: Path | None = None,
    ) -> None:
        self.budget, self.folder = budget or Budget(), folder
        self.ledger = EnergyLedger.of_folder(folder, intensity=intensity, pue=pue)
        self._earlier_hours, self._start_s = self.ledger.hours, time.monotonic()
        self._next_refresh = self._next_write = self._known_j = 0.0
        self._watchers: list[Callable[[Mapping[str, Any]], None]] = []

    def start(self) -> None:
        """Begin to meter, with this process as search overhead.

        Raises:
            ValueError: If energy or carbon is limited but cannot be known.
        """
        self._start_s = time.monotonic()
        self._open()
        self._take_in(self._snapshots(is_final=True))
        self.used()

    def stop(self) -> None:
        """Take in and write the last figures; this process is charged no longer."""
        self._close()
        self._take_in(self._snapshots(is_final=True))
        self.write()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def go_on_in(self, folder: Path) -> None:
        """Keep the account in a folder from now on; one that is there is gone on with.

        Raises:
            ValueError: If the account in the folder is damaged.
        """
        earlier = EnergyLedger.of_folder(folder, intensity=self.ledger.intensity, pue=self.ledger.pue)
        self._earlier_hours += earlier.hours
        earlier.add_all(self.ledger)
        self.folder, self.ledger = folder, earlier

    def watch(self, watcher: Callable[[Mapping[str, Any]], None]) -> None:
        """Have every snapshot of a meter shown from now on, as it is taken in."""
        self._watchers.append(watcher)

    def spending(self) -> Spending:
        """Return what the experiment has used so far, as of the last refresh."""
        energy_j = self.ledger.energy_j
        carbon_g = None if energy_j is None else self.ledger.carbon_g(energy_j)
        return Spending(hours=self._hours(), energy_j=energy_j, carbon_g=carbon_g)

    def used(self) -> float:
        """Return the used share of the tightest limit; 1 and more is the end.

        Raises:
            ValueError: If energy or carbon is limited but cannot be known.
        """
        return self.budget.used(self.spending())

    def is_spent(self, reserve: Spending | None = None) -> bool:
        """Return whether the budget is used up, less what is reserved for later, as of the last refresh.

        Where a part of the energy is unknown, the known part counts. At most four fifths are reserved, so that there is
        something to search with.
        """
        if not self.budget:
            return False
        known = Spending(hours=self._hours(), energy_j=self._known_j, carbon_g=self.ledger.carbon_g(self._known_j))
        return self.budget.used(known) + self._reserved(reserve) >= 1

    def _reserved(self, reserve: Spending | None) -> float:
        if reserve is None:
            return 0.0
        try:
            return min(self.budget.used(reserve), _MOST_RESERVED)
        except ValueError:  # what later stages take is unknown
            return 0.0

    def refresh(self, *, now: bool = False) -> None:
        """Take in new figures, about once a second whenever called more often, and write them now and then.

        Args:
            now: Whether to ask and wait for the very last figures.
        """
        start = time.monotonic()
        if start < self._next_refresh and not now:
            return
        self._take_in(self._snapshots(is_final=now))
        end = time.monotonic()
        self._next_refresh = start + max(_REFRESH_S, (end - start) / _REFRESH_SHARE)
        if start >= self._next_write:
            self.write()
            self._next_write = end + (time.monotonic() - end) / _WRITE_SHARE

    def write(self) -> None:
        """Write `energy.json` and `emissions.csv` into the folder, if there is one."""
        if self.folder is not None:
            self.ledger.hours = self._hours()
            self.ledger.write(self.folder)

    @abc.abstractmethod
    def _open(self) -> None:
        """Start the meters and charge this process as overhead."""

    @abc.abstractmethod
    def _close(self) -> None:
        """Charge this process no longer."""

    @abc.abstractmethod
    def _snapshots(self, *, is_final: bool) -> Iterable[Mapping[str, Any]]:
        """Return what the meters have counted: with `is_final` all of it, else what is there without waiting."""

    def _take_in(self, snapshots: Iterable[Mapping[str, Any]]) -> None:
        for snapshot in snapshots:
            self.ledger.add(snapshot)
            for watcher in self._watchers:
                watcher(snapshot)
        if self.budget:
            self._known_j = self.ledger.known_j

    def _hours(self) -> float:
        return self._earlier_hours + (time.monotonic() - self._start_s) / 3600


class LocalAccount(EnergyAccount):
    """The account of an experiment that runs in this process alone."""

    def _open(self) -> None:
        self._meter = NodeMeter.of_this_machine(node="local")
        self._lease = self._meter.open(Lease.of_this_process(owner=OVERHEAD, stage="search", cpus=1.0))

    def _close(self) -> None:
        self._meter.close(self._lease)

    def _snapshots(self, *, is_final: bool) -> Iterable[Mapping[str, Any]]:
        return [self._meter.snapshot()]
