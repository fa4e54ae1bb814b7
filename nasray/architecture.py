"""What every part of nasray passes around: one point of a search space."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from nasray.reading import short

Choice = int | float | str | bool

_SPACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Architecture:
    """Name one network of a search space: the space and a value for each of its choices.

    Immutable and hashable. Two architectures are the same network when their `arch_id` agrees; spaces return
    canonical architectures, so that spellings of one network share one id.

    Args:
        space: Name of the search space: letters, digits, `.`, `_` and `-`, at most 64.
        items: Pairs of choice name and value, sorted by name. Use `Architecture.of` to build one from a mapping.

    Raises:
        ValueError: If the space's name has other characters or the choices are not sorted and unique.
    """

    space: str
    items: tuple[tuple[str, Choice], ...]

    def __post_init__(self) -> None:
        if not _SPACE_NAME.fullmatch(self.space):
            raise ValueError(
                f"`space` must match {_SPACE_NAME.pattern}, got {short(self.space)}. Rename the search space."
            )
        names = [name for name, _ in self.items]
        if names != sorted(set(names)):
            raise ValueError("`items` must be sorted by unique names, got another order. Use Architecture.of(...).")

    @classmethod
    def of(cls, space: str, choices: Mapping[str, Choice]) -> Architecture:
        """Build an architecture from a mapping of choice name to value."""
        return cls(space, tuple(sorted(choices.items())))

    @cached_property
    def choices(self) -> Mapping[str, Choice]:
        """The choices as a mapping, to be read only."""
        return dict(self.items)

    @cached_property
    def arch_id(self) -> str:
        """Digest of the canonical JSON: 16 hexadecimal digits."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __getitem__(self, name: str) -> Choice:
        return self.choices[name]

    def to_json(self) -> dict[str, object]:
        """Return `{"space": ..., "choices": {...}}`, ready for `json.dumps`."""
        return {"space": self.space, "choices": dict(self.items)}

    @classmethod
    def from_json(cls, value: object) -> Architecture:
        """Read what `to_json` wrote.

        Raises:
            ValueError: If `value` is anything else.
        """
        if not isinstance(value, Mapping) or set(value) != {"space", "choices"}:
            raise ValueError('An architecture must be a JSON object {"space": ..., "choices": {...}}.')
        space, choices = value["space"], value["choices"]
        if not isinstance(space, str) or not isinstance(choices, Mapping):
            raise ValueError('An architecture must have a text "space" and an object "choices".')
        for name, choice in choices.items():
            if not isinstance(name, str) or not isinstance(choice, Choice):
                raise ValueError(f"Choice {short(name)} must be a number, text or boolean, got {short(choice)}.")
            if isinstance(choice, float) and not (float("-inf") < choice < float("inf")):
                raise ValueError(f"Choice {name!r} must be finite, got {choice!r}.")
        return cls.of(space, choices)
