"""Networks with several exits that compute only what the exit asked for depends on.

Such a network is a graph of named parts. Each part reads the image or other parts; exits are the parts that give
logits. What an exit does not depend on is not computed for it, be it deeper or beside the way to it. Exits count
from 1.

Tensor letters: B images, C channels, H and W height and width, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

IMAGE = "image"
"""What parts call the network's input."""


class AnytimeNetwork(nn.Module):
    """A graph of parts with one or more exits; takes images (B, C, H, W), gives logits (B, K).

    Args:
        parts: Modules by name, in an order of computation. A part is called with its inputs as arguments.
        inputs: What each part reads: names of earlier parts, or `IMAGE`.
        exits: Names of the parts that give the logits of exit 1, 2, ...

    Raises:
        ValueError: If a part reads something that does not come before it, or an exit is no part.
    """

    def __init__(
        self, parts: Mapping[str, nn.Module], inputs: Mapping[str, tuple[str, ...]], exits: Sequence[str]
    ) -> None:
        super().__init__()
        _check_graph(list(parts), inputs, exits)
        self.parts = nn.ModuleDict(parts)
        self.inputs = dict(inputs)
        self.exits = tuple(exits)
        self._schedules: dict[tuple[str, ...], list[list[_Step]]] = {}

    @property
    def num_exits(self) -> int:
        """How many exits there are."""
        return len(self.exits)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the logits (B, K) of the last exit; classifiers of other exits are not computed."""
        return self.outputs(x_BCHW, self.exits[-1:])[0]

    def all_exits(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the logits (B, K) of every exit; what they share is computed once."""
        return self.outputs(x_BCHW, self.exits)

    @torch.inference_mode()
    def predict(self, x_BCHW: Tensor, *, exit: int) -> Tensor:
        """Return the logits (B, K) of one exit, computing nothing else. The network must be in eval mode.

        Raises:
            ValueError: If there is no such exit, or the network is in training mode.
        """
        self._check_eval()
        return self.outputs(x_BCHW, (self.exit_name(exit),))[0]

    def outputs(self, x_BCHW: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Return what the named parts give, computing only what they depend on."""
        return list(self.walk(x_BCHW, names))

    def walk(self, x_BCHW: Tensor, names: Sequence[str]) -> Walk:
        """Return an iterator over what the named parts give, in this order, which computes each when it is asked."""
        return Walk(self, x_BCHW, names)

    def exit_name(self, exit: int) -> str:
        """Return the name of the part that is an exit.

        Raises:
            ValueError: If there is no such exit.
        """
        if not 1 <= exit <= self.num_exits:
            raise ValueError(f"`exit` must be from 1 to {self.num_exits}, got {exit}.")
        return self.exits[exit - 1]

    def needed(self, names: Sequence[str]) -> list[str]:
        """Return all parts that the named ones depend on, themselves included, in order of computation."""
        found = needed_parts(self.inputs, names)
        return [name for name in self.parts if name in found]

    def exit_network(self, exit: int) -> AnytimeNetwork:
        """Return the network of one exit alone, with the same weights (shared, not copied).

        Its forward pass is that exit; it holds no part that the exit does not need. For costs and exports.

        Raises:
            ValueError: If there is no such exit.
        """
        name = self.exit_name(exit)
        kept = self.needed((name,))
        alone = AnytimeNetwork(
            {part: self.parts[part] for part in kept}, {part: self.inputs[part] for part in kept}, (name,)
        )
        alone.training = self.training  # of the module itself; those of the parts are shared
        return alone

    def schedule(self, names: tuple[str, ...]) -> list[list[_Step]]:
        """Return, for each named part, the steps that compute it after those before: see `Walk`."""
        if names not in self._schedules:
            self._schedules[names] = self._new_schedule(names)
        return self._schedules[names]

    def _new_schedule(self, names: tuple[str, ...]) -> list[list[_Step]]:
        done: set[str] = set()
        stages: list[list[str]] = []
        for name in names:
            stages.append([part for part in self.needed((name,)) if part not in done])
            done.update(stages[-1])
        last_reader: dict[str, str] = {}
        for part in (part for stage in stages for part in stage):
            last_reader.update(dict.fromkeys(self.inputs[part], part))
        released: dict[str, list[str]] = {}
        for source, reader in last_reader.items():
            if source not in names:
                released.setdefault(reader, []).append(source)
        return [[(part, self.inputs[part], tuple(released.get(part, ()))) for part in stage] for stage in stages]

    def _check_eval(self) -> None:
        if self.training:
            raise ValueError("The network must be in eval mode to predict, got training mode. Call `eval()` first.")


_Step = tuple[str, tuple[str, ...], tuple[str, ...]]
"""A part to compute, what it reads, and what nobody reads after it."""


class Walk(Iterator[Tensor]):
    """Compute a network's exits one after the other, each from what the earlier ones left.

    Each `next` gives the output of the next named part. Between two of them images may be dropped.

    Args:
        network: Any.
        x_BCHW: Images.
        names: Parts to compute, in this order.
    """

    def __init__(self, network: AnytimeNetwork, x_BCHW: Tensor, names: Sequence[str]) -> None:
        self._parts = network.parts
        self._names = tuple(names)
        self._stages = network.schedule(self._names)
        self._features = {IMAGE: x_BCHW}
        self._next = 0

    def __next__(self) -> Tensor:
        """Return the output of the next part, or stop after the last."""
        if self._next == len(self._names):
            raise StopIteration
        features = self._features
        for part, sources, released in self._stages[self._next]:
            features[part] = self._parts[part](*(features[source] for source in sources))
            for source in released:
                del features[source]
        name = self._names[self._next]
        self._next += 1
        return features[name]

    def keep(self, kept: Tensor) -> None:
        """Go on with these images alone: indices or a mask along the batch."""
        self._features = {name: value[kept] for name, value in self._features.items()}


class ExitSequence(nn.Module):
    """The first exits of a network, computed one after the other as for images that none but the last satisfies."""

    def __init__(self, network: AnytimeNetwork, last_exit: int) -> None:
        super().__init__()
        network.exit_name(last_exit)
        self.network, self.last_exit = network, last_exit

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the logits (B, K) of exit 1 to the last one."""
        return self.network.outputs(x_BCHW, self.network.exits[: self.last_exit])


def needed_parts(inputs: Mapping[str, Sequence[str]], names: Iterable[str]) -> set[str]:
    """Return all parts that the named ones depend on, themselves included.

    Args:
        inputs: What each part reads; `IMAGE` is no part.
        names: Of the parts.
    """
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name != IMAGE and name not in found:
            found.add(name)
            pending += inputs[name]
    return found


def _check_graph(parts: Sequence[str], inputs: Mapping[str, tuple[str, ...]], exits: Sequence[str]) -> None:
    if not exits or not set(exits) <= set(parts):
        raise ValueError(f"`exits` must name at least one part and only parts, got {list(exits)}.")
    known = {IMAGE}
    for part in parts:
        if missing := [name for name in inputs.get(part, ("nothing",)) if name not in known]:
            raise ValueError(f"Part {part!r} must read only parts before it or {IMAGE!r}, got {missing[0]!r}.")
        known.add(part)
