"""codecarbon beside the meter of a node: a second opinion on what the node took."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

from nasray.carbon.codecarbon_quiet import codecarbon_name, quiet_codecarbon
from nasray.carbon.sensors import CPU, GPU_PREFIX, RAM

_KINDS = {"cpu": CPU, "gpu": GPU_PREFIX, "ram": RAM}
_J_PER_KWH = 3.6e6
_LEAST_S = 10.0  # codecarbon samples power once a second; more often, a comparison is of its rounding


class CrossCheck:
    """codecarbon's own figures for the whole node, to hold against the meter's. One per node, made by `start`.

    The two differ for known reasons: codecarbon's model of CPU load is cubic, it does not read RAPL's memory zones, and
    it counts a GPU only where NVML does. What it costs is charged to nobody.
    """

    def __init__(self, tracker: Any, last: Any, reason: str | None, clock: Callable[[], float]) -> None:
        self._tracker = tracker
        self._last = last
        self._reason = reason
        self._clock = clock
        self._first: tuple[float, Mapping[str, float | None], Mapping[str, float | None]] | None = None
        self._answer: dict[str, Any] | None = None
        self._answered_s = 0.0

    @classmethod
    def start(cls, *, clock: Callable[[], float] = time.monotonic) -> CrossCheck:
        """Start codecarbon, 1 to 2 s; it opens no socket, writes no file and reads no settings. Never raises."""
        try:
            with quiet_codecarbon():
                tracker, last = _tracker()
                tracker.start()
            logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # its threads go on
        except Exception as error:  # a second opinion must not cost the first
            return cls(None, None, f"codecarbon did not start ({type(error).__name__}: {error})", clock)
        return cls(tracker, last, None, clock)

    def compare(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        """Return codecarbon's energy beside the meter's, both since the first call. Never raises.

        The figures are renewed every 10 s at most.

        Args:
            snapshot: What `NodeMeter.snapshot` returned just now.

        Returns:
            "source", "reason" (why there is nothing to compare, or `None`), "seconds", and "domains": for "cpu", "gpu"
            and "ram" {codecarbon_kwh, nasray_kwh, relative_difference}; the difference is (nasray - codecarbon) /
            codecarbon, and what is unknown on either side is `None`.
        """
        if self._answer is None or self._clock() - self._answered_s >= _LEAST_S:
            self._answered_s = self._clock()
            self._answer = self._compare(snapshot)
        return self._answer

    def stop(self) -> None:
        """Stop codecarbon; nothing is compared after that."""
        if self._tracker is not None:
            self._tracker.stop()
        self._tracker, self._reason = None, self._reason or "codecarbon was stopped"

    def _compare(self, snapshot: Mapping[str, Any]) -> dict[str, Any]:
        theirs = self._theirs_kwh()
        ours = {kind: _ours_kwh(snapshot, prefix) for kind, prefix in _KINDS.items()}
        if theirs is None:
            return self._result(self._reason or "codecarbon gave no figures", 0.0, {})
        if self._first is None:
            self._first = (self._clock(), theirs, ours)
            return self._result("the comparison has just begun", 0.0, {})
        first_s, theirs_before, ours_before = self._first
        domains = {
            kind: _difference(_minus(theirs[kind], theirs_before[kind]), _minus(ours[kind], ours_before[kind]))
            for kind in _KINDS
        }
        return self._result(None, self._clock() - first_s, domains)

    def _theirs_kwh(self) -> dict[str, float | None] | None:
        if self._tracker is None:
            return None
        self._tracker.flush()
        data = self._last.data
        if data is None:
            return None
        return {
            "cpu": data.cpu_energy,
            "gpu": data.gpu_energy if data.gpu_count else None,
            "ram": data.ram_energy,
        }

    def _result(self, reason: str | None, seconds: float, domains: Mapping[str, Any]) -> dict[str, Any]:
        return {"source": codecarbon_name(), "reason": reason, "seconds": seconds, "domains": dict(domains)}


def _tracker() -> tuple[Any, Any]:
    """Return codecarbon's tracker, not started, and what receives its figures."""
    # urllib3 opens a socket when it is imported, to see whether there is IPv6; codecarbon imports it and needs none.
    with mock.patch("socket.has_ipv6", False):
        import codecarbon.external.geography  # noqa: F401
    from codecarbon import OfflineEmissionsTracker, emissions_tracker
    from codecarbon.output_methods.base_output import BaseOutput

    class Last(BaseOutput):
        """Keep the last figures in memory."""

        data: Any = None

        def out(self, total: Any, delta: Any) -> None:
            self.data = total

    last = Last()
    accepted = {
        name
        for owner in (emissions_tracker.BaseEmissionsTracker, OfflineEmissionsTracker)
        for name in inspect.signature(owner.__init__).parameters
    }
    options = {name: value for name, value in _options(last).items() if name in accepted}
    # An option that is None or not passed is looked up in files and variables, which are not ours to obey.
    with mock.patch.object(emissions_tracker, "get_hierarchical_config", dict):
        return OfflineEmissionsTracker(**options), last


def _options(last: Any) -> dict[str, Any]:
    from nasray.carbon.nvml import uuids_by_index

    return {
        "project_name": "nasray",
        "experiment_name": "nasray",
        "experiment_id": "nasray",
        "api_call_interval": 8,
        "api_endpoint": "",
        "api_key": "",
        "prometheus_url": "",
        "logging_logger": None,
        "measure_power_secs": 60,
        "output_dir": ".",
        "output_file": "emissions.csv",
        "output_methods": [],
        "output_handlers": [last],
        "gpu_ids": list(range(len(uuids_by_index()))) or None,
        "emissions_endpoint": None,
        "electricitymaps_api_token": None,
        "tracking_mode": "machine",
        "log_level": "critical",
        "on_csv_write": "append",
        "logger_preamble": "",
        "force_cpu_power": None,
        "force_ram_power": None,
        "pue": 1.0,
        "wue": 0.0,
        "force_carbon_intensity_g_co2e_kwh": 0.0,
        "force_mode_cpu_load": False,
        "allow_multiple_runs": True,
        "rapl_include_dram": False,
        "rapl_prefer_psys": False,
        "metadata": None,
        "country_iso_code": None,
        "region": None,
        "cloud_provider": None,
        "cloud_region": None,
        "country_2letter_iso_code": None,
    }


def _ours_kwh(snapshot: Mapping[str, Any], prefix: str) -> float | None:
    """Return the node's energy in the domains of a kind, or `None` if one is unknown or there is none."""
    values = [domain["node_j"] for name, domain in snapshot["domains"].items() if name.startswith(prefix)]
    known = [value for value in values if value is not None]
    return sum(known) / _J_PER_KWH if known and len(known) == len(values) else None


def _minus(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


def _difference(theirs: float | None, ours: float | None) -> dict[str, float | None]:
    relative = (ours - theirs) / theirs if theirs and ours is not None else None
    return {"codecarbon_kwh": theirs, "nasray_kwh": ours, "relative_difference": relative}
