"""Latency of a module, and of an architecture, timed on this machine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from nasray.architecture import Architecture
from nasray.hardware.cost import Cost, CostValue
from nasray.hardware.device import DeviceFingerprint, check_device
from nasray.hardware.timing import Timing, time_runs, torch_threads
from nasray.models.build import PlannedImageSpace, build_network
from nasray.models.plain import PlainNetwork
from nasray.spaces.cell import CellSpace
from nasray.spaces.chain import ChainSpace
from nasray.spaces.mobile import MobileSpace
from nasray.spaces.multi_scale import MultiScaleSettings, MultiScaleSpace
from nasray.spaces.network_plan import NetworkPlan
from nasray.spaces.network_spec import NetworkSpec


@dataclass(frozen=True, kw_only=True)
class Latency(Timing):
    """A timing, the batch size that it is for, and the device that it was taken on."""

    batch_size: int
    device: DeviceFingerprint


def measure_latency(
    module: nn.Module,
    input_shape: Sequence[int],
    *,
    device: str = "cpu",
    budget_s: float = 0.2,
    warmup_s: float = 0.02,
    min_repeats: int = 5,
    threads: int = 1,
) -> Latency:
    """Time the forward pass of a module in eval mode. The module is copied and left alone.

    Args:
        module: Any module of one input.
        input_shape: Shape of the input, batch first.
        device: "cpu", "cuda" or "cuda:<index>".
        budget_s: Seconds to spend on samples; `min_repeats` may take longer.
        warmup_s: Seconds to run before the first sample.
        min_repeats: Samples to take at least.
        threads: Threads of torch while timing on a CPU. One is the steadiest: several wait for each other, and on a
            busy machine for everybody else.

    Returns:
        Median and interquartile range in ms for the whole batch.

    Raises:
        ValueError: If the device cannot be used.
    """
    place = check_device(device)
    copied = copy.deepcopy(module).to(place).eval()
    with torch_threads(threads), torch.inference_mode():
        x = torch.randn(tuple(input_shape), generator=torch.Generator().manual_seed(0)).to(place)
        timing = time_runs(
            lambda: copied(x), device=place, budget_s=budget_s, warmup_s=warmup_s, min_repeats=min_repeats
        )
        fingerprint = DeviceFingerprint.of(device)
    return Latency(
        median_ms=timing.median_ms,
        spread_ms=timing.spread_ms,
        repeats=timing.repeats,
        batch_size=input_shape[0],
        device=fingerprint,
    )


def network_module(plan: NetworkPlan) -> PlainNetwork:
    """Return a network with random weights, for timing. The global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        return PlainNetwork(plan)


def input_shape(space: PlannedImageSpace, batch_size: int = 1) -> tuple[int, int, int, int]:
    """Return the shape of the input of a space's networks, (B, C, H, W)."""
    match space:
        case MobileSpace():
            spec: NetworkSpec | CellSpace | ChainSpace | MultiScaleSettings = space.spec
        case MultiScaleSpace():
            spec = space.settings
        case _:
            spec = space
    return batch_size, spec.in_channels, spec.resolution, spec.resolution


def latency_measure(
    space: PlannedImageSpace,
    *,
    device: str = "cpu",
    batch_size: int = 1,
    budget_s: float = 0.05,
    threads: int = 1,
) -> Callable[[Architecture], float]:
    """Return a function that builds the network of an architecture and times it once: its median latency in ms.

    For samples and checks that time many networks in turns; see `measure_latency`.
    """

    def measure(architecture: Architecture) -> float:
        with torch.random.fork_rng(devices=[]):
            network = build_network(space, architecture)
        shape = input_shape(space, batch_size)
        return measure_latency(network, shape, device=device, budget_s=budget_s, threads=threads).median_ms

    return measure


class MeasuredLatency(Cost):
    """Latency of the plain network, timed on this machine. Each architecture is timed once.

    Slow, and as noisy as the machine: for searching, a lookup table is steadier.

    Args:
        space: The search space.
        device: "cpu", "cuda" or "cuda:<index>".
        batch_size: Images at a time.
        budget_s: Seconds of samples for an architecture.
        threads: Threads of torch while timing on a CPU. One is the steadiest: several wait for each other, and on a
            busy machine for everybody else.
    """

    name = "measured-latency"
    unit = "ms"

    def __init__(
        self,
        space: MobileSpace,
        *,
        device: str = "cpu",
        batch_size: int = 1,
        budget_s: float = 0.2,
        threads: int = 1,
    ) -> None:
        self.space = space
        self.device = device
        self.batch_size = batch_size
        self.budget_s = budget_s
        self.threads = threads
        self._known: dict[str, CostValue] = {}

    def __call__(self, architecture: Architecture) -> CostValue:
        """Return the median latency in ms; the spread is the interquartile range."""
        if architecture.arch_id not in self._known:
            self._known[architecture.arch_id] = self._measure(architecture)
        return self._known[architecture.arch_id]

    def _measure(self, architecture: Architecture) -> CostValue:
        spec = self.space.spec
        latency = measure_latency(
            network_module(self.space.plan(architecture)),
            (self.batch_size, spec.in_channels, spec.resolution, spec.resolution),
            device=self.device,
            budget_s=self.budget_s,
            threads=self.threads,
        )
        source = f"{latency.device.describe()}, batch size {self.batch_size}, {latency.repeats} repeats"
        return CostValue(
            value=latency.median_ms, unit=self.unit, source=source, quality="measured", spread=latency.spread_ms
        )
