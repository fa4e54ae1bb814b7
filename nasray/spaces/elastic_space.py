"""A search space made of somebody's own network: the arguments of its class that are marked as choices."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from nasray.architecture import Architecture, Choice
from nasray.spaces.space import SearchSpace


class Marked:
    """Options of an argument, as `choice` marks them."""

    def __init__(self, options: tuple[Choice, ...]) -> None:
        self.options = options

    def __repr__(self) -> str:
        return f"choice({', '.join(map(repr, self.options))})"


def choice(*options: Choice) -> Any:
    """Mark an argument of a network's class as something to search: its width, kernel, depth or anything else.

    It stands in place of the argument's default: `def __init__(self, width=choice(16, 32, 64))`.

    Args:
        options: At least two different numbers in ascending order, or texts from what is cheap to what is dear.

    Raises:
        ValueError: If they are not so.
    """
    if len(options) < 2 or len({repr(option) for option in options}) < len(options):
        raise ValueError(f"`options` of a choice must be at least two different values, got {list(options)}.")
    if not all(isinstance(option, Choice) for option in options):
        raise ValueError(f"`options` of a choice must be numbers, texts or booleans, got {list(options)}.")
    numbers = [float(option) for option in options if isinstance(option, int | float)]
    if numbers and (len(numbers) < len(options) or not all(map(math.isfinite, numbers)) or numbers != sorted(numbers)):
        raise ValueError(f"`options` of a choice must be finite numbers in ascending order, got {list(options)}.")
    return Marked(options)


class ElasticSpace(SearchSpace):
    """The networks that a class makes with every combination of its marked arguments.

    Networks of such a space can share weights (`nasray.models.shared_weights`) if an option only makes tensors larger
    or adds modules at the end of a sequence: widths, kernels and depths do.

    Args:
        network: Class, or function, that makes a `torch.nn.Module`; arguments whose default is a `choice` are searched.
        name: Name of the space; by default that of the class.

    Raises:
        ValueError: If nothing is marked, or an argument without a default is not marked.
    """

    def __init__(self, network: Callable[..., Any], *, name: str | None = None) -> None:
        self.name = name or str(getattr(network, "__name__", "network")).strip("<>_") or "network"
        self.network = network
        self._choices = dict(sorted(_marked(network).items()))
        self.largest()  # raises for a name that architectures cannot have

    @property
    def choices(self) -> Mapping[str, tuple[Choice, ...]]:
        """Options of each marked argument."""
        return self._choices

    def build(self, architecture: Architecture) -> Any:
        """Return the network of an architecture with fresh weights.

        Raises:
            ValueError: If the architecture is of another space.
        """
        return self.network(**self.check(architecture).choices)


def _marked(network: Callable[..., Any]) -> dict[str, tuple[Choice, ...]]:
    parameters = inspect.signature(network).parameters.values()
    found = {p.name: p.default.options for p in parameters if isinstance(p.default, Marked)}
    needed = [
        p.name
        for p in parameters
        if p.default is inspect.Parameter.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if needed:
        raise ValueError(
            f"Every argument of `network` must have a default or a choice, got {needed[0]!r} without one. Give it one."
        )
    if not found:
        raise ValueError(
            "`network` must have an argument whose default is a choice, got none. "
            "Mark one: def __init__(self, width=nasray.choice(16, 32))."
        )
    return found
