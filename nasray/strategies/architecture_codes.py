"""Architectures of one space as small numbers, for states that hold many of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property

from nasray.architecture import Architecture, Choice
from nasray.spaces.space import SearchSpace


class ArchitectureCodes:
    """Writes an architecture as the numbers of its options, in the order of the choices' names.

    That is about a tenth of its JSON, whose names are the same every time. The numbers mean something in a space with
    the same choices alone: keep `digest` with them.

    Args:
        space: Of the architectures.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    @cached_property
    def _options(self) -> list[tuple[str, tuple[Choice, ...], dict[Choice, int]]]:
        rows = sorted(self._space.choices.items())
        return [(name, options, {value: code for code, value in enumerate(options)}) for name, options in rows]

    @cached_property
    def digest(self) -> str:
        """What tells spaces with other choices apart."""
        choices = [[name, list(options)] for name, options, _ in self._options]
        return hashlib.sha256(json.dumps([self._space.name, choices]).encode()).hexdigest()

    def of(self, architecture: Architecture) -> list[int]:
        """Return the numbers of an architecture's options."""
        return [codes[value] for (_, _, codes), (_, value) in zip(self._options, architecture.items, strict=True)]

    def architecture(self, codes: Sequence[int]) -> Architecture:
        """Return the architecture with these options.

        Raises:
            ValueError: If there are more or fewer numbers than choices, or one is of no option.
        """
        if len(codes) != len(self._options) or not all(
            0 <= code < len(options) for code, (_, options, _) in zip(codes, self._options, strict=False)
        ):
            raise ValueError(
                f"An architecture must have the number of an option for each of {len(self._options)} choices."
            )
        choices = {name: options[code] for code, (name, options, _) in zip(codes, self._options, strict=True)}
        return self._space.canonical(choices)
