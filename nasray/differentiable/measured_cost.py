"""Tables of what operations take on a device, each measured alone: latencies, and energies."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from nasray.carbon.modelled import modelled_cpu
from nasray.carbon.sensors import SensorError
from nasray.differentiable.expected_cost import CostTable, cost_table
from nasray.hardware.inference_energy import energy_windows, has_counter
from nasray.hardware.timing import time_runs, torch_threads
from nasray.models.darts_operations import operation
from nasray.models.multi_scale_network import CellInputs, Classifier, build_stem
from nasray.spaces.multi_scale_layout import MultiScaleSettings

Measure = Callable[[Callable[[], object]], float]
"""Takes a computation; gives what one run of it takes."""

_WINDOW_S = 2.0
"""Counters of GPUs move about every 0.1 s, so that a window of 2 s ends within 5 %."""


def latency_table(
    settings: MultiScaleSettings, *, device: torch.device | str = "cpu", batch_size: int = 1, budget_s: float = 0.02
) -> CostTable:
    """Measure the latency of each operation alone, in ms for a batch: a lookup table without overlaps and caches.

    Args:
        settings: Layout.
        device: Where to measure; on a CPU with one thread.
        batch_size: Images at once.
        budget_s: Time for each of the different operations; a network has about a hundred.
    """
    place = torch.device(device)

    def latency_ms(run: Callable[[], object]) -> float:
        return time_runs(run, device=place, budget_s=budget_s).median_ms

    with torch_threads(1):
        return _measured(settings, "latency_ms", latency_ms, place, batch_size)


def energy_table(settings: MultiScaleSettings, *, device: str = "cpu") -> tuple[CostTable, str]:
    """Return the energy that each operation takes for one image, in mJ, and how good the figures are, a sentence.

    Where the device has a counter, each of the about hundred different operations runs alone for two seconds; nothing
    else should run on the device. A CPU without one is taken to draw its model's power per thread, so that energies
    are latencies in another unit.

    Raises:
        ValueError: If a device that is no CPU has no counter, or nothing is known of the CPU's power.
    """
    if has_counter(device):
        with torch_threads(1), energy_windows(device) as window_j:

            def energy_mj(run: Callable[[], object]) -> float:
                found = window_j(run, _WINDOW_S)
                if found is None:
                    raise ValueError(f"`cost` energy needs the counter of {device}, which went away. Use latency.")
                return 1e3 * found

            table = _measured(settings, "energy_mj", energy_mj, torch.device(device), 1)
        return table, f"Energies of operations were measured one by one on the counter of {device}."
    if torch.device(device).type != "cpu":
        raise ValueError(f"`cost` energy needs an energy counter, and {device} has none. Use --cost latency.")
    power_w = _modelled_power_w()
    return (
        latency_table(settings, device=device).scaled("energy_mj", power_w),
        f"Energies of operations are estimated as latency times {power_w:.3g} W, as this CPU has no energy counter.",
    )


def _modelled_power_w() -> float:
    """Return the power that one busy thread of this CPU is modelled with."""
    import psutil

    try:
        cpu = modelled_cpu(why="no counter")
    except SensorError as error:
        raise ValueError(f"`cost` energy needs the power of this CPU, but there is {error}. Use latency.") from error
    return cpu.tdp_w / (psutil.cpu_count() or 1)


def _measured(
    settings: MultiScaleSettings, unit: str, measure: Measure, place: torch.device, batch_size: int
) -> CostTable:
    """Return a table of what `measure` says of each operation and of everything else of a network."""

    def measured(module: nn.Module, *shapes: tuple[int, int]) -> float:
        inputs = [torch.randn(batch_size, channels, side, side, device=place) for channels, side in shapes]
        module = module.to(place).eval()
        with torch.inference_mode():
            return measure(lambda: module(*inputs))

    def of_operation(name: str, channels: int, side: int, stride: int) -> float:
        is_free = name == "none" or (name == "skip_connect" and stride == 1)
        return 0.0 if is_free else measured(operation(name, channels, stride), (channels, side))

    fixed = 0.0
    for position in settings.positions:
        sources = [(settings.width(source), settings.side(source)) for source in settings.inputs(position)]
        module = build_stem(settings, position) if position.layer < 0 else CellInputs(settings, position)
        fixed += measured(module, *(sources or [(settings.in_channels, settings.resolution)]))
    for exit in range(1, settings.exits + 1):
        place_of_exit = settings.exit_position(exit)
        shape = (settings.width(place_of_exit), settings.side(place_of_exit))
        fixed += measured(Classifier(shape[0], settings.num_classes), shape)
    return cost_table(settings, unit, of_operation, fixed=fixed)
