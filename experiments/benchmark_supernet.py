"""Time a supernet's training step (ordered dropout with bypasses) against the plain step of its largest network.

A step is forward, backward and zero_grad on one batch, without optimizer, in the precision that training uses. The
baseline is the faster of two plain steps, contiguous and channels-last. Variants take turns (A B C A B C ...), a ratio
is taken within each turn, and medians with quartiles are reported. On CPUs the first supernet steps are slow, as oneDNN
compiles a kernel for each new shape: they are reported apart ("cold"). Times in ms, memory in MiB.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from _benchmark import Parser, at_least, spread, write_json
from torch import Tensor, nn

from nasray.models.supernet import Supernet
from nasray.spaces.mobile_networks import NETWORKS, mobile_space
from nasray.strategies.shrinking import Shrinker
from nasray.training import losses
from nasray.training.trainer import Backward

Step = Callable[[], object]
PLAIN = ("plain", "plain channels-last")
GOALS = {
    "supernet time": {"cpu": 1.5, "cuda": 1.25},
    "supernet memory": {"cpu": 1.3, "cuda": 1.3},
}


class Steps:
    """The variants of a training step on one batch of random images."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(arguments.threads)
        self.space = mobile_space(arguments.network, num_classes=10)
        self.device = torch.device(arguments.device)
        size = self.space.spec.resolution
        self.images = torch.randn(arguments.batch_size, self.space.spec.in_channels, size, size, device=self.device)
        self.labels = torch.randint(10, (arguments.batch_size,), device=self.device)
        self.supernet = Supernet(self.space)
        self.place(self.supernet)
        self.generator = np.random.default_rng(0)
        self.num_subnets: int = arguments.num_subnets

    def place(self, model: nn.Module, memory_format: torch.memory_format = torch.channels_last) -> None:
        """Move a model to the device."""
        model.to(self.device).to(memory_format=memory_format)  # type: ignore[call-overload]

    def step(self, name: str) -> Step:
        """Return a variant by its name."""
        if name in PLAIN:
            memory_format = torch.contiguous_format if name == "plain" else torch.channels_last
            model = self.supernet.extract(self.space.largest()).train()
            self.place(model, memory_format)
            return self._step(model, losses.cross_entropy(model), self.images.to(memory_format=memory_format))
        net, generator = self.supernet, self.generator
        backward: dict[str, Backward] = {
            "supernet": losses.ordered_dropout(net, generator, num_subnets=self.num_subnets),
            "masked": losses.masked_ordered_dropout(net, generator),
            "sandwich": self._sandwich,
        }
        return self._step(net, backward[name], self.images.to(memory_format=torch.channels_last))

    def _step(self, model: nn.Module, backward: Backward, images: Tensor) -> Step:
        def step() -> None:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                backward(images, self.labels, lambda loss: loss)
            model.zero_grad()

        return step

    def _sandwich(self, images: Tensor, labels: Tensor, scale: Callable[[Tensor], Tensor]) -> Tensor:
        """Train largest, smallest and two random sub-networks, each on the whole batch (Yu and Huang 2019)."""
        space, loss = self.space, torch.zeros(())
        for network in (space.largest(), space.smallest(), *(space.random(self.generator) for _ in range(2))):
            self.supernet.activate(network)
            loss = losses.cross_entropy(self.supernet)(images, labels, scale)
        return loss

    def seconds(self, step: Step) -> float:
        """Return how long a step takes."""
        self._wait()
        start = time.perf_counter()
        step()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def turns(steps: Steps, variants: Mapping[str, Step], count: int) -> dict[str, np.ndarray]:
    """Return the seconds of each variant in each turn."""
    gc.collect()
    rows = [{name: steps.seconds(step) for name, step in variants.items()} for _ in range(count)]
    return {name: np.array([row[name] for row in rows]) for name in variants}


def training_times(steps: Steps, arguments: argparse.Namespace) -> dict[str, object]:
    """Time all variants, cold and warm, and print their ratios to the faster plain step."""
    variants = {name: steps.step(name) for name in (*PLAIN, "supernet", "masked", "sandwich")}
    cold = {name: sum(steps.seconds(variants[name]) for _ in range(20)) for name in (*PLAIN, "supernet")}
    for _ in range(arguments.warm_up):
        variants["supernet"]()
    for _ in range(arguments.warm_up // 2):
        variants["sandwich"]()
    seconds = turns(steps, variants, arguments.turns)
    base = min(PLAIN, key=lambda name: float(np.median(seconds[name])))
    ratios = {name: spread(times / seconds[base]) for name, times in seconds.items()}
    dearer = spread(seconds["sandwich"] / seconds["supernet"])
    cold_ratio = cold["supernet"] / min(cold[name] for name in PLAIN)
    print(
        f"baseline: {base}; after {arguments.warm_up} warm-up supernet steps and {arguments.warm_up // 2} of sandwich"
    )
    for name, times in seconds.items():
        print(f"  {name:20} {1e3 * np.median(times):8.1f} ms, {show(ratios[name])} the baseline")
    report("supernet time", ratios["supernet"]["median"], steps.device.type)
    print(f"cold: the first 20 supernet steps took {cold_ratio:.2f}x the first 20 of the faster plain network")
    print(f"four sandwich passes cost {show(dearer)} a supernet step (goal: at least 3x)")
    return {
        "baseline": base,
        "ms": {name: spread(1e3 * times) for name, times in seconds.items()},
        "ratios": ratios,
        "sandwich_to_supernet": dearer,
        "cold_ratio": cold_ratio,
    }


def inference_times(steps: Steps, arguments: argparse.Namespace) -> dict[str, float]:
    """Time half-size networks, extracted, against the masked supernet forward that computes the same."""
    space, generator = steps.space, np.random.default_rng(1)
    shrinker = Shrinker(space, lambda architecture: float(space.plan(architecture).macs))
    half, layers = shrinker.cost(space.largest()) / 2, list(shrinker.layers)
    images = steps.images.to(memory_format=torch.channels_last)
    supernet, ratios = steps.supernet.eval(), []
    for _ in range(5):
        architecture = shrinker.shrink(space.largest(), layers, half, generator)
        assert architecture is not None
        network, names = supernet.extract(architecture), [architecture] * len(images)
        pair: dict[str, Step] = {
            "extracted": lambda network=network: network(images),  # type: ignore[misc]
            "masked": lambda names=names: supernet.forward_masked(images, names),  # type: ignore[misc]
        }
        with torch.inference_mode():
            turns(steps, pair, 5)
            seconds = turns(steps, pair, arguments.turns)
        ratios.extend(seconds["masked"] / seconds["extracted"])
    figures = spread(ratios)
    print(f"evaluating 5 extracted networks of half the MACs: the masked supernet takes {show(figures)} (goal: 1.6x)")
    return figures


def memory_use(steps: Steps, name: str, count: int) -> float | None:
    """Return the peak memory of some steps less what was in use before, in MiB; None where it cannot be read."""
    step = steps.step(name)
    gc.collect()
    if steps.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(count):
            step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    if platform.system() != "Linux":
        return None
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far is forgotten
    before = _resident("VmRSS")
    for _ in range(count):
        step()
    return (_resident("VmHWM") - before) / 2**20


def _resident(field: str) -> int:
    """Return a size of this process in bytes: VmRSS is what is resident now, VmHWM its peak."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _measure_memory(arguments: argparse.Namespace, name: str) -> float | None:
    return memory_use(Steps(arguments), name, arguments.memory_steps)


def memory(arguments: argparse.Namespace) -> dict[str, object]:
    """Print the peak memory of the steps, each measured three times in a fresh process."""
    peaks: dict[str, list[float]] = {}
    for name in (*PLAIN, "supernet", "masked"):
        for _ in range(3):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peak = pool.apply(_measure_memory, (arguments, name))
            if peak is None:
                print("memory: unavailable, as this system does not tell a process's peak")
                return {}
            peaks.setdefault(name, []).append(peak)
    base = min(PLAIN, key=lambda name: np.median(peaks[name]))
    print(f"peak memory over {arguments.memory_steps} steps of a fresh process, without what was in use before:")
    for name, values in peaks.items():
        print(f"  {name:20} {np.median(values):8.1f} MiB ({min(values):.1f}..{max(values):.1f} in {len(values)} runs)")
    ratio = float(np.median(peaks["supernet"]) / np.median(peaks[base]))
    report("supernet memory", ratio, torch.device(arguments.device).type)
    return {"mib": peaks, "baseline": base, "ratio": ratio}


def show(ratio: Mapping[str, float]) -> str:
    """Return a median ratio and its quartiles."""
    return f"{ratio['median']:.2f}x ({ratio['q25']:.2f}..{ratio['q75']:.2f})"


def report(name: str, ratio: float, device: str) -> None:
    """Print a ratio beside its goal."""
    goal = GOALS[name][device]
    print(f"{name}: {ratio:.2f}x plain (goal: at most {goal}x, {'met' if ratio <= goal else 'missed'})")


def main() -> None:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--network", choices=sorted(NETWORKS), default="mobile-32", help="initial network")
    add("--batch-size", type=at_least(2), default=64, help="images per step")
    add("--num-subnets", type=at_least(1), default=6, help="sub-networks per step")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute")
    add("--threads", type=at_least(1), default=torch.get_num_threads(), help="CPU threads")
    add("--warm-up", type=at_least(0), default=400, help="supernet steps before timing")
    add("--turns", type=at_least(2), default=40, help="turns to time")
    add("--memory-steps", type=at_least(1), default=5, help="steps over which the peak memory is taken")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU, and torch finds none.")
    if arguments.num_subnets > arguments.batch_size // 2:
        parser.error(f"--num-subnets must be at most half of the batch, got {arguments.num_subnets}.")
    peaks = memory(arguments)
    steps = Steps(arguments)
    print(
        f"{arguments.network}, batch {arguments.batch_size}, {arguments.num_subnets} sub-networks per step, "
        f"{arguments.device}, {arguments.threads} thread(s), torch {torch.__version__}"
    )
    figures = {
        "setting": {key: value for key, value in vars(arguments).items() if key != "json"},
        "training": training_times(steps, arguments),
        "memory": peaks,
        "inference": inference_times(steps, arguments),
    }
    write_json(arguments.json, figures)


if __name__ == "__main__":
    main()
