"""A search that is killed at any moment goes on exactly: a journal tells what was asked and told, in which order."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation
from nasray.records import RunError
from nasray.records.files import read_object, to_json, write_whole
from nasray.records.lines import append_lines, read_lines
from nasray.strategies.strategy import State, Strategy, Trial
from nasray.tune.search_record import recorded_evaluation

STATE, JOURNAL = "search_state.json", "search_journal.jsonl"

_SAVING_SHARE = 0.05

_DIFFERS = (
    "The search could not be repeated as it was up to its interruption: from candidate {0} on it may ask for others."
)
_NO_RECORD = "The evaluation of candidate {0} is no longer on the record: the search goes on from there."
_LOST = f"{STATE} and {JOURNAL} are missing or damaged: the search begins anew and is told what is recorded as it asks."


class JournalledStrategy(Strategy):
    """A strategy that is asked and told as ever, and that can be brought back to where it was when its process died.

    The journal begins with the strategy's state, and has a line for each ask and each tell since. They are written by
    `flush`: call it before an evaluation is recorded, and the record never holds an evaluation whose candidate the
    journal does not know. To restore, the strategy is asked and told the same again, which a strategy answers alike.
    A state that is saved now and then spares the older part of that.

    Args:
        strategy: What to ask; to restore, made with the same arguments as before.
        folder: The run directory.

    Attributes:
        out: Candidates that were asked for and not told, by id.
    """

    def __init__(self, strategy: Strategy, folder: Path) -> None:
        self._strategy = strategy
        self._journal, self._state = folder / JOURNAL, folder / STATE
        self.out: dict[str, Trial] = {}
        self._id, self._num_events, self._lines = "", 0, list[str]()
        self._num_saved, self._next_time = 0, 0.0
        self._is_between = True  # an interrupt inside ask or tell leaves a state that is not to be saved

    @property
    def formulation(self) -> Formulation | None:
        """Objectives and constraints of the strategy, if it has them."""
        return getattr(self._strategy, "formulation", None)

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to ask."""
        return self._strategy.is_finished

    def ask(self) -> Trial | None:
        """Return the strategy's next candidate, or None."""
        self._is_between = False
        trial = self._strategy.ask()
        if trial is not None:
            self.out[trial.trial_id] = trial
            self._note({"ask": trial.trial_id, "arch_id": trial.architecture.arch_id})
        self._is_between = True
        return trial

    def tell(self, trial_id: str, evaluation: Evaluation) -> None:
        """Tell the strategy.

        Raises:
            ValueError: If the strategy refuses it.
        """
        self._is_between = False
        self._strategy.tell(trial_id, evaluation)
        self.out.pop(trial_id, None)
        self._note({"tell": trial_id})
        self._is_between = True

    def state_dict(self) -> State:
        """Return the strategy's own state."""
        return self._strategy.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Continue from the strategy's own state; what was out then is for the caller to know."""
        self._strategy.load_state_dict(state)

    def flush(self) -> None:
        """Put what was asked and told on the disk."""
        append_lines(self._journal, self._lines)
        self._lines.clear()

    def save(self) -> None:
        """Save the state."""
        if not self._is_between:
            return
        start = time.monotonic()
        self.flush()
        saved = self._snapshot() | {"journal": self._id, "events": self._num_events}
        write_whole(self._state, to_json(saved, "state"))
        end = time.monotonic()
        self._num_saved, self._next_time = self._num_events, end + (end - start) / _SAVING_SHARE

    def save_if_due(self) -> None:
        """Save the state if something happened since, but spend at most a twentieth of the time on it."""
        if self._num_events != self._num_saved and time.monotonic() >= self._next_time:
            self.save()

    def restore(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Begin, or come back to where the search was, and tell what was recorded but not told.

        Args:
            rows: The search's evaluations as they were recorded.

        Returns:
            A sentence for each thing that is not as it was.

        Raises:
            RunError: If a file cannot be written.
        """
        recorded = _Recorded(rows)
        notices = self._go_back(recorded)
        for trial_id, arch_id, evaluation in recorded.in_order():
            if trial_id in self.out and self.out[trial_id].architecture.arch_id == arch_id:
                self.tell(trial_id, evaluation)
        self._num_saved = self._num_events
        return notices

    def _go_back(self, recorded: _Recorded) -> list[str]:
        is_new = not (self._journal.exists() or self._state.exists() or recorded)
        journal, saved = self._read_journal(), _object_or_none(self._state)
        notices = []
        if journal is not None:
            start, events = journal
            fits = saved is not None and saved.get("journal") == start["journal"]
            if fits and saved is not None and saved["events"] <= len(events) and self._loads(saved):
                return self._repeat(events, saved["events"], recorded)
            if self._state.exists() and saved is None:
                notices.append(f"{STATE} was damaged and is made anew from {JOURNAL}.")
            if self._loads(start):
                return notices + self._repeat(events, 0, recorded)
            notices = [_LOST]
        elif saved is not None and self._loads(saved):
            notices = [
                f"{JOURNAL} was missing or damaged: the search goes on from {STATE}, which may be a little older."
            ]
        elif not is_new:
            notices = [_LOST]
        self._begin()
        return notices

    def _repeat(self, events: Sequence[Mapping[str, Any]], num_done: int, recorded: _Recorded) -> list[str]:
        """Ask and tell what was asked and told after a state; where that fails, begin a new journal there."""
        for number in range(num_done, len(events)):
            event = events[number]
            if "ask" in event:
                trial = self._strategy.ask()
                if trial is not None:
                    self.out[trial.trial_id] = trial
                if trial is None or (trial.trial_id, trial.architecture.arch_id) != (event["ask"], event["arch_id"]):
                    self._begin()
                    return [_DIFFERS.format(event["ask"])]
            else:
                evaluation = recorded.of(self.out.get(event["tell"]))
                if evaluation is None:
                    self._begin()
                    return [_NO_RECORD.format(event["tell"])]
                self._strategy.tell(event["tell"], evaluation)
                del self.out[event["tell"]]
        self._num_events = len(events)
        return []

    def _begin(self) -> None:
        """Begin a journal with the present state."""
        self._id, self._num_events, self._lines = uuid.uuid4().hex, 0, []
        write_whole(self._journal, to_json(self._snapshot() | {"journal": self._id}, "journal") + "\n")

    def _snapshot(self) -> dict[str, Any]:
        out = {key: trial.architecture.to_json() for key, trial in self.out.items()}
        return {"strategy": self._strategy.state_dict(), "out": out}

    def _loads(self, snapshot: Mapping[str, Any]) -> bool:
        """Go back to a snapshot; return False, with everything as before, if it is none of this strategy's."""
        before = self._strategy.state_dict()
        try:
            self._strategy.load_state_dict(snapshot["strategy"])
            self.out = {
                key: Trial(trial_id=key, architecture=Architecture.from_json(value))
                for key, value in snapshot["out"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            # A strategy may have taken a part of the state before it found the rest damaged.
            self._strategy.load_state_dict(before)
            self.out = {}
            return False
        return True

    def _read_journal(self) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """Return the state that the journal begins with and its events; None if it is missing or damaged."""
        try:
            rows = [row for _, row in read_lines(self._journal)]
        except RunError:
            return None
        if not rows or "strategy" not in rows[0]:
            return None
        self._id = rows[0]["journal"]
        return rows[0], rows[1:]

    def _note(self, event: Mapping[str, str]) -> None:
        self._num_events += 1
        self._lines.append(json.dumps(event))


class _Recorded:
    """The evaluations on record, by candidate and by architecture."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._own = {(row["trial_id"], row["arch_id"]): recorded_evaluation(row) for row in rows}
        self._known = {arch_id: each for (_, arch_id), each in self._own.items() if each.status != "failed"}

    def __bool__(self) -> bool:
        return bool(self._own)

    def in_order(self) -> list[tuple[str, str, Evaluation]]:
        return [(*key, evaluation) for key, evaluation in self._own.items()]

    def of(self, trial: Trial | None) -> Evaluation | None:
        """Return the evaluation of a candidate, or else of the same architecture."""
        if trial is None:
            return None
        arch_id = trial.architecture.arch_id
        return self._own.get((trial.trial_id, arch_id)) or self._known.get(arch_id)


def _object_or_none(path: Path) -> dict[str, Any] | None:
    try:
        return read_object(path)
    except RunError:
        return None
