"""RAPL: the energy counters of CPU packages and their memory, as Linux shows them below /sys/class/powercap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nasray.carbon.sensors import CPU, Activity, Sensor, SensorError, SensorKind

MAX_PACKAGE_POWER_W = 1500.0
"""Above the peak of every CPU package; a faster rise of the counter is a reset, not a wrap."""

_MIRROR_J = 1.0  # Two views of one counter differ by what is spent between two reads.


@dataclass(frozen=True, kw_only=True)
class RaplZone:
    """One RAPL counter.

    Args:
        domain: "cpu" for a package, "ram" for its memory.
        path: Folder of the zone.
        name: Name of the zone, such as "package-0".
        wrap_j: Joules at which it wraps.
    """

    domain: str
    path: Path
    name: str
    wrap_j: float
    idle_power_w: float | None = None
    max_power_w: float | None = MAX_PACKAGE_POWER_W
    kind: SensorKind = "counter"

    @property
    def source(self) -> str:
        """Where the reading comes from."""
        return f"RAPL {self.name}"

    def read_j(self) -> float:
        """Return the counter in joules."""
        return _number(self.path / "energy_uj") / 1e6

    def activity(self) -> Activity | None:
        """Return `None`: RAPL does not know processes."""
        return None


def find_zones(powercap: Path, domain: str) -> list[Sensor]:
    """Return the counters of a domain: every package for "cpu", the memory of every package for "ram".

    "psys" covers more than the packages and "core" and "uncore" are part of them, so that none of them is read. The
    same package seen twice (MSR and MMIO) is read once. All packages or none: a part would pass for the whole.

    Args:
        powercap: Folder of the zones, flat as in /sys/class/powercap.
        domain: "cpu" or "ram".

    Raises:
        SensorError: If there is no such counter or one of them cannot be read.
    """
    packages = _packages(powercap)
    if not packages:
        raise SensorError(f"no RAPL package below {powercap}")
    if domain == CPU:
        return _without_mirrors([_zone(domain, path, name) for name, path in packages.items()])
    memories = {name: _memory_of(path) for name, path in packages.items()}
    missing = sorted(name for name, path in memories.items() if path is None)
    if missing:
        raise SensorError(f"RAPL counts no memory for {', '.join(missing)}")
    return [_zone(domain, path, f"{name} dram") for name, path in memories.items() if path is not None]


def _without_mirrors(zones: list[RaplZone]) -> list[Sensor]:
    """Leave out dies that repeat their package's counter, as some AMD CPUs with several dies do."""
    kept: list[tuple[str, float]] = []
    found: list[Sensor] = []
    for zone in zones:
        package = zone.name.partition("-die-")[0]
        energy_j = zone.read_j()
        if not any(other == package and abs(energy_j - other_j) <= _MIRROR_J for other, other_j in kept):
            found.append(zone)
        kept.append((package, energy_j))
    return found


def _packages(powercap: Path) -> dict[str, Path]:
    """Return the folders of the packages by name, those of the MSR interface first."""
    try:
        folders = sorted(path for path in powercap.iterdir() if path.name.count(":") == 1)
    except OSError:
        return {}
    folders.sort(key=lambda path: "mmio" in path.name)
    found: dict[str, Path] = {}
    for folder in folders:
        name = _name(folder)
        if name is not None and name.startswith("package"):
            found.setdefault(name, folder)
    return found


def _memory_of(package: Path) -> Path | None:
    """Return the memory zone of a package; the kernel shows it below the package and, flat, next to it."""
    nearby = [*package.glob(f"{package.name}:*"), *package.parent.glob(f"{package.name}:*")]
    return next((path for path in sorted(nearby) if _name(path) == "dram"), None)


def _zone(domain: str, path: Path, name: str) -> RaplZone:
    zone = RaplZone(domain=domain, path=path, name=name, wrap_j=_number(path / "max_energy_range_uj") / 1e6)
    zone.read_j()
    return zone


def _name(folder: Path) -> str | None:
    try:
        return (folder / "name").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _number(path: Path) -> float:
    try:
        return float(path.read_text(encoding="ascii"))
    except PermissionError as error:
        raise SensorError(f"{path} may only be read by root; sudo chmod a+r {path} lets others") from error
    except (OSError, ValueError) as error:
        raise SensorError(f"{path} cannot be read ({error})") from error
