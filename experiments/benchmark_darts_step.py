"""Time a step of a differentiable search against a plain one, at the same numbers.

A step is the first-order bilevel step of DARTS: architecture parameters by Adam, then weights by SGD. The plain network
has one module per operation, looped over and summed up as in DARTS's published code, whose step it takes too: both
losses are backpropagated to all parameters. It runs contiguous, as published, and channels-last. First, losses and
gradients of both networks are compared on one batch. Variants take turns, a ratio is taken within each turn, and
medians with quartiles are reported. Times in ms.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from _benchmark import Parser, at_least, spread, write_json
from torch import Tensor, nn
from torch.nn import functional as F

from nasray.differentiable.bilevel import search_step
from nasray.differentiable.relaxed_network import RelaxedCell, RelaxedNetwork, darts_supernet
from nasray.models.darts_operations import operation
from nasray.spaces.genotype import NUM_INPUTS, OPERATIONS, cell_edges

Step = Callable[[], None]
FAST, PLAIN, PLAIN_LAST = "nasray", "plain", "plain channels-last"
GOALS = {"cpu": 1.7, "cuda": 3.0}
TOLERANCE = 1e-4


class PlainMixture(nn.Module):
    """An edge with one module per operation."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(
            operation(name, channels, stride, affine=False, has_pool_norm=True) for name in OPERATIONS
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Return the weighted sum."""
        total: Tensor = sum(w * module(x) for w, module in zip(weights, self.operations, strict=True))
        return total


class PlainCell(nn.Module):
    """A relaxed cell as the paper has it, with the weights of another."""

    def __init__(self, cell: RelaxedCell) -> None:
        super().__init__()
        self.enter = cell.enter
        self.num_nodes = len(cell.sources) + 1 - NUM_INPUTS
        self.edges = cell_edges(self.num_nodes)
        self.mixtures = nn.ModuleList()
        for source, target in self.edges:
            operations = cell.sources[source]
            assert isinstance(operations.channels, int) and isinstance(operations.stride, int)
            mixture = PlainMixture(operations.channels, operations.stride)
            for name, module in zip(OPERATIONS, mixture.operations, strict=True):
                module.load_state_dict(cell.tensors(source, target, name), strict=False)
            self.mixtures.append(mixture)

    def forward(self, weights: Tensor, *inputs: Tensor) -> Tensor:
        """Return the concatenated nodes."""
        nodes = list(self.enter(*inputs))
        for node in range(NUM_INPUTS, NUM_INPUTS + self.num_nodes):
            rows = [row for row, edge in enumerate(self.edges) if edge[1] == node]
            nodes.append(sum(self.mixtures[row](nodes[self.edges[row][0]], weights[row]) for row in rows))
        return torch.cat(nodes[NUM_INPUTS:], dim=1)


def plain_network(network: RelaxedNetwork, memory_format: torch.memory_format) -> RelaxedNetwork:
    """Return a copy of the network whose cells are plain."""
    plain = copy.deepcopy(network)
    for name, part in plain.parts.items():
        if isinstance(part, RelaxedCell):
            plain.parts[name] = PlainCell(part).to(next(network.parameters()).device)
    plain.to(memory_format=memory_format)  # type: ignore[call-overload]
    return plain


class Steps:
    """The variants of a search step on one pair of batches of random images."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(arguments.threads)
        self.device, self.is_mixed = torch.device(arguments.device), arguments.mixed
        network = darts_supernet(channels=arguments.channels, layers=arguments.layers).to(self.device)
        shape = (arguments.batch_size, 3, arguments.resolution, arguments.resolution)
        self.batches = [
            (torch.randn(shape, device=self.device), torch.randint(10, shape[:1], device=self.device)) for _ in "tv"
        ]
        self.networks = {
            PLAIN: plain_network(network, torch.contiguous_format),
            PLAIN_LAST: plain_network(network, torch.channels_last),
            FAST: network,
        }

    def loss(self, name: str, half: int) -> Tensor:
        """Return the loss of a network on one of the two batches."""
        images, labels = self.batches[half]
        memory_format = torch.contiguous_format if name == PLAIN else torch.channels_last
        images = images.to(dtype=next(self.networks[name].parameters()).dtype, memory_format=memory_format)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_mixed and images.dtype == torch.float32):
            logits = self.networks[name](images)
        return F.cross_entropy(logits, labels)

    def differences(self, dtype: torch.dtype) -> dict[str, float]:
        """Return how far losses and gradients are from those of the plain network; gradients by the largest of all.

        In single precision, the two plain networks differ from each other as much: a maximum or a ReLU that falls the
        other way by rounding moves gradients. Double precision tells whether they compute the same.
        """
        losses, gradients = {}, {}
        for name, network in self.networks.items():
            network.to(dtype)
            loss = self.loss(name, 0)
            loss.backward()
            losses[name], gradients[name] = loss.item(), self._gradients_by_operation(name)
            network.zero_grad()
            network.float()
        largest = max(float(gradient.abs().max()) for gradient in gradients[PLAIN])
        found = {}
        for name in (PLAIN_LAST, FAST):
            pairs = zip(gradients[PLAIN], gradients[name], strict=True)
            found[f"{name}, loss"] = abs(losses[PLAIN] - losses[name])
            found[f"{name}, gradients"] = max(float((a - b).abs().max()) for a, b in pairs) / largest
        return found

    def _gradients_by_operation(self, name: str) -> list[Tensor]:
        """Return gradients of both networks in one order, that of the plain one."""
        network = self.networks[name]
        found = [parameter.grad for part, parameter in network.named_parameters() if "cell" not in part]
        for part in network.parts.values():
            if isinstance(part, PlainCell):
                found += [parameter.grad for parameter in (*part.enter.parameters(), *part.mixtures.parameters())]
            elif isinstance(part, RelaxedCell):
                found += [parameter.grad for parameter in part.enter.parameters()]
                cell = copy.deepcopy(part)
                with torch.no_grad():
                    for mine, parameter in zip(cell.parameters(), part.parameters(), strict=True):
                        mine.copy_(torch.zeros_like(mine) if parameter.grad is None else parameter.grad)
                for edge in cell_edges(len(cell.sources) + 1 - NUM_INPUTS):
                    tensors = (cell.tensors(*edge, name) for name in OPERATIONS)
                    found += [value for values in tensors for key, value in values.items() if key.endswith("weight")]
        return [gradient for gradient in found if gradient is not None]

    def step(self, name: str) -> Step:
        """Return a variant of the step."""
        network = self.networks[name]
        alphas, weights = network.alphas, network.weights
        adam = torch.optim.Adam(alphas, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
        sgd = torch.optim.SGD(weights, lr=0.025, momentum=0.9, weight_decay=3e-4)

        def plain_step() -> None:
            adam.zero_grad()
            self.loss(name, 1).backward()
            adam.step()
            sgd.zero_grad()
            self.loss(name, 0).backward()
            nn.utils.clip_grad_norm_(weights, 5.0)
            sgd.step()

        def fast_step() -> None:
            search_step(
                lambda: self.loss(name, 0),
                lambda: self.loss(name, 1),
                alphas=alphas,
                weights=weights,
                alpha_optimizer=adam,
                weight_optimizer=sgd,
            )

        return fast_step if name == FAST else plain_step

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
    rows = [{name: steps.seconds(step) for name, step in variants.items()} for _ in range(count)]
    return {name: np.array([row[name] for row in rows]) for name in variants}


def main() -> None:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute")
    add("--threads", type=at_least(1), default=torch.get_num_threads(), help="CPU threads")
    add("--batch-size", type=at_least(2), help="images per batch; by default 16 on a CPU, 64 on a GPU")
    add("--channels", type=at_least(4), default=16, help="of the first cells")
    add("--layers", type=at_least(3), default=8, help="cells")
    add("--resolution", type=at_least(8), default=32, help="side of the images in pixels")
    add("--mixed", action="store_true", help="compute in bfloat16 where autocast does")
    add("--warm-up", type=at_least(1), default=2, help="steps of each variant before timing")
    add("--turns", type=at_least(2), default=10, help="turns to time")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU, and torch finds none.")
    if arguments.batch_size is None:
        arguments.batch_size = 16 if arguments.device == "cpu" else 64
    steps = Steps(arguments)
    print(
        f"{arguments.layers} cells, {arguments.channels} channels, {arguments.resolution}x{arguments.resolution}, "
        f"batch {arguments.batch_size}, {arguments.device}, {arguments.threads} thread(s), torch {torch.__version__}"
    )
    differences = {str(dtype): steps.differences(dtype) for dtype in (torch.float64, torch.float32)}
    for dtype, found in differences.items():
        print(f"{dtype}: " + "; ".join(f"{name} {value:.1e}" for name, value in found.items()) + " off the plain ones")
    if (off := max(differences["torch.float64"].values())) > TOLERANCE:
        raise SystemExit(f"The plain network and ours must agree within {TOLERANCE}, got a difference of {off:.1e}.")
    variants = {name: steps.step(name) for name in (PLAIN, PLAIN_LAST, FAST)}
    turns(steps, variants, arguments.warm_up)
    seconds = turns(steps, variants, arguments.turns)
    for name, times in seconds.items():
        print(f"  {name:20} {1e3 * np.median(times):9.1f} ms")
    faster = {name: spread(seconds[name] / seconds[FAST]) for name in (PLAIN, PLAIN_LAST)}
    goal = GOALS[arguments.device]
    for name, ratio in faster.items():
        verdict = "met" if ratio["median"] >= goal else "missed"
        quartiles = f"{ratio['q25']:.2f}..{ratio['q75']:.2f}"
        print(f"{ratio['median']:.2f}x ({quartiles}) faster than {name} (goal: {goal}x, {verdict})")
    write_json(
        arguments.json,
        {
            "setting": {key: value for key, value in vars(arguments).items() if key != "json"},
            "differences": differences,
            "ms": {name: spread(1e3 * times) for name, times in seconds.items()},
            "faster": faster,
        },
    )


if __name__ == "__main__":
    main()
