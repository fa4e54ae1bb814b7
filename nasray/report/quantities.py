"""How reports name metrics and write numbers: one label, unit and format per metric, everywhere."""

from collections.abc import Mapping
from dataclasses import dataclass

MISSING = "\N{EN DASH}"

_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "K"))


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A metric's name for people, its unit, and the d3 format of its axis."""

    label: str
    unit: str = ""
    tick_format: str = "~g"

    @property
    def title(self) -> str:
        """Return label and unit, as on an axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


QUANTITIES: Mapping[str, Quantity] = {
    "accuracy": Quantity(label="Accuracy", tick_format=".1~%"),
    "macs": Quantity(label="MACs", tick_format="~s"),
    "parameters": Quantity(label="Parameters", tick_format="~s"),
    "memory_bytes": Quantity(label="Memory", unit="B", tick_format="~s"),
    "latency_ms": Quantity(label="Latency", unit="ms"),
    "latency_predicted_ms": Quantity(label="Latency by lookup table", unit="ms"),
    "inference_time_s": Quantity(label="Inference time", unit="s"),
    "test_accuracy": Quantity(label="Test accuracy", tick_format=".1~%"),
    "training_time_s": Quantity(label="Training time", unit="s"),
    "energy_mj": Quantity(label="Energy per inference", unit="mJ"),
    "energy_j": Quantity(label="Energy of training", unit="J"),
    "lifetime_carbon_g": Quantity(label="Lifetime CO2e", unit="g"),
    "carbon_g": Quantity(label="CO2e of training", unit="g"),
}


def quantity(name: str) -> Quantity:
    """Return how to show a metric; an unlisted one goes by its own name."""
    return QUANTITIES.get(name) or Quantity(label=name.replace("_", " "))


def in_sentence(name: str) -> str:
    """Return how to name a metric within a sentence: "lifetime CO2e", "MACs"."""
    label = quantity(name).label
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]


def format_metric(name: str, value: float | None) -> str:
    """Write a metric with its unit, such as "93.10 %", "112.4 M", "1.2 MB" or "3.41 ms"; a dash if missing."""
    if value is None:
        return MISSING
    if "accuracy" in name:
        return f"{100 * value:.2f} %"
    shown = quantity(name)
    if shown.tick_format == "~s":
        return format_count(value) + shown.unit
    return f"{_four_digits(value)} {shown.unit}".rstrip()


def format_count(value: float) -> str:
    """Write a count with four digits and a decimal prefix, such as "225.1 M"; below a thousand as it is."""
    for size, prefix in _PREFIXES:
        if abs(value) >= size:
            return f"{_four_digits(value / size)} {prefix}"
    return f"{_four_digits(value)} " if value % 1 else f"{value:.0f} "


def format_share(value: float | None, whole: float | None) -> str:
    """Write a value as a share of a whole, such as "49.9 %"; a dash if either is missing or the whole is 0."""
    if value is None or not whole:
        return MISSING
    return f"{100 * value / whole:.1f} %"


def format_factor(value: float) -> str:
    """Write by which factor something is less, such as "5.9x less" or "1,672x less"; nothing where it is not."""
    if value < 1.005:
        return ""
    return f"{value:.2g}x less" if value < 10 else f"{value:,.0f}x less"


def format_energy(energy_j: float) -> str:
    """Write joules as "2.1 kWh" or, below 10 Wh, as "3.4 Wh"."""
    return f"{energy_j / 3.6e6:.3g} kWh" if energy_j >= 3.6e4 else f"{energy_j / 3.6e3:.3g} Wh"


def format_carbon(carbon_g: float) -> str:
    """Write grams of CO2 equivalent as "1.2 kg CO2e" or "340 g CO2e"."""
    return f"{carbon_g / 1e3:.3g} kg CO2e" if carbon_g >= 1e3 else f"{carbon_g:.3g} g CO2e"


def format_duration(seconds: float) -> str:
    """Write a duration with its two largest units, such as "2 h 05 min", "3 min 20 s" or "4.2 s"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_time(text: str | None) -> str:
    """Write an ISO 8601 time as "2026-11-20 21:44 UTC" would be; text that is not one stays as it is."""
    if not text:
        return MISSING
    return text[:16].replace("T", " ") + (" UTC" if text.endswith(("Z", "+00:00")) else text[19:])


def _four_digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1e4 else f"{value:#.4g}".rstrip(".")
