"""What makes a run that run: its method, seed, configuration and data, and what changed since it started."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from nasray.records import environment
from nasray.records.files import JSON, RunError, digest, to_json

SCHEMA = 1

_ABSENT = "nothing"


def new_run(
    *, method: str, preset: str, configuration: Mapping[str, JSON], seed: int, data: Mapping[str, JSON]
) -> dict[str, Any]:
    """Return the first content of `run.json`.

    Raises:
        RunError: If the configuration or the data description is not JSON.
    """
    configuration = json.loads(to_json(configuration, "configuration"))
    return {
        "schema": SCHEMA,
        "method": method,
        "preset": preset,
        "configuration": configuration,
        "configuration_digest": digest(configuration),
        "seed": seed,
        "versions": environment.versions(),
        "machine": environment.machine(),
        "data": json.loads(to_json(data, "data")),
        "git_commit": environment.git_commit(),
        "status": "running",
        "created": now(),
        "updated": now(),
        "notices": [],
        "stages": [],
        "results": [],
    }


def check_same(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse to continue a run as another one.

    Method, seed, configuration and the data's fingerprint decide the outcome; a data set that moved to another
    folder, or a configuration that another preset spells alike, is the same.

    Args:
        recorded: Content of `run.json`.
        asked: What `new_run` makes of the arguments now.

    Raises:
        RunError: If they differ; names every differing key with both values.
    """
    before, after = dict(_identity(recorded)), dict(_identity(asked))
    keys = [key for key in {**before, **after} if before.get(key, _ABSENT) != after.get(key, _ABSENT)]
    if keys:
        changes = "; ".join(
            f"{key} was {before.get(key, _ABSENT)!r} and is now {after.get(key, _ABSENT)!r}" for key in keys
        )
        raise RunError(
            f"`configuration` must be the recorded one to resume, got differences: {changes}. "
            "Restore these values or choose another --run-dir."
        )


def moves(recorded: Mapping[str, Any], now_running: Mapping[str, Any]) -> list[str]:
    """Tell, one sentence each, which versions and which machine differ from those that the run started with."""
    sentences = []
    for name, version in now_running["versions"].items():
        before = recorded.get("versions", {}).get(name)
        if before != version:
            sentences.append(f"Resumed with {name} {version} after starting with {before}.")
    before, after = (side.get("machine", {}).get("hostname") for side in (recorded, now_running))
    if before != after:
        sentences.append(f"Resumed on {after} after starting on {before}.")
    return sentences


def now() -> str:
    """Return the time as ISO 8601 text in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _identity(run: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "method", run.get("method")
    yield "seed", run.get("seed")
    yield "data.fingerprint", run.get("data", {}).get("fingerprint")
    yield from flatten(run.get("configuration", {}))


def flatten(mapping: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings under dotted keys; lists and empty mappings count as leaves."""
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
