"""Any strategy as a Ray Tune searcher: one trial per candidate, nobody waits for anybody."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher
from ray.tune.utils import flatten_dict

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.failures import Failure
from nasray.reading import build, read_json, reason
from nasray.records.files import check_name
from nasray.strategies.strategy import StateError, Strategy, Trial, read_result, reading_state
from nasray.tune.candidate_result import (
    ARCHITECTURE,
    CANDIDATE_ID,
    architecture_text,
    candidate_architecture,
    candidate_config,
    read_evaluation,
    required_metrics,
)
from nasray.tune.first_crashes import FirstCrashes

Record = Callable[[Trial, Evaluation], None]
CrashOf = Callable[[str], Failure | None]


class StrategySearcher(Searcher):
    """Asks a strategy for candidates and tells it what came of them, for use as `TuneConfig(search_alg=...)`.

    A trial's configuration holds the candidate's id and its architecture (`candidate_architecture` reads it); its last
    result must hold the metrics. A result without them, or with one that is not finite, is told as a failed
    evaluation, and so is a trial that crashed more than `max_retries` times. An architecture that was evaluated
    before is not evaluated again: its evaluation is told at once.

    Set `num_samples=-1`: the strategy ends the search. Objectives and directions are the strategy's own, so
    `TuneConfig` gets no metric and no mode; this searcher shows Ray none either, since Ray would end the whole search
    at the first result that lacks one. A trial that a scheduler stops early is told with its last result. With
    `reuse_actors=True`, use `NewestTrialFirst` or a scheduler derived from it: Ray's own may lose workers for good.

    Args:
        strategy: What to ask. To restore, make it with the same arguments.
        metrics: Metrics that results must have; by default those of the strategy's formulation.
        max_concurrent: Trials at a time; by default as many as Ray has resources for. Ray sets it from
            `TuneConfig(max_concurrent_trials=...)`, which also lets Ray start as many actors at once.
        max_retries: How often a candidate whose trial crashed is tried again.
        record: Called with every evaluation before the strategy is told, but not for one that was known before.
        crash_of: Tells by a trial's id why it crashed, as `CrashWatch.crash` does; None if that is unknown.

    Raises:
        ValueError: If a number is out of its range or no metrics are known.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        metrics: Sequence[str] | None = None,
        max_concurrent: int | None = None,
        max_retries: int = 1,
        record: Record | None = None,
        crash_of: CrashOf | None = None,
    ) -> None:
        super().__init__()
        if max_concurrent is not None and max_concurrent < 1:
            raise ValueError(f"`max_concurrent` must be at least 1, got {max_concurrent}. Leave it out for no limit.")
        if max_retries < 0:
            raise ValueError(f"`max_retries` must be at least 0, got {max_retries}.")
        self.strategy, self.metrics = strategy, required_metrics(strategy, metrics)
        self._max_concurrent, self._max_retries, self._record = max_concurrent, max_retries, record
        self._crash_of = crash_of
        self._candidates: dict[str, Trial] = {}  # asked and not told, by candidate id
        self._running: dict[str, str] = {}  # Ray's trial id -> candidate id
        self._queue: deque[str] = deque()  # candidates that no trial carries
        self._crashes: dict[str, int] = {}
        self._first_crashes = FirstCrashes()
        self._known: dict[str, Evaluation] = {}  # by architecture id
        self._own: dict[tuple[str, str], Evaluation] = {}  # by candidate and architecture id, failed ones too
        self._error: Exception | None = None

    @property
    def num_running(self) -> int:
        """How many trials are out."""
        return len(self._running)

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Take the limit that Ray was given; it is kept here."""
        self._max_concurrent = max_concurrent
        return True

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of a trial, None to wait, or FINISHED once nothing is asked and nothing is out.

        Raises:
            RuntimeError: If the strategy waits for results although no candidate is out, or the first trials crashed.
            Exception: What recording an evaluation or telling the strategy raised.
        """
        if self._error is not None:
            raise self._error
        if self._max_concurrent is not None and len(self._running) >= self._max_concurrent:
            return None
        candidate = self._next()
        if candidate is not None:
            self._running[trial_id] = candidate.trial_id
            return candidate_config(candidate)
        if self._running:
            return None
        if not self.strategy.is_finished:
            raise RuntimeError("The strategy waits for candidates that no trial carries. Give it its results first.")
        return Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the strategy what came of a trial; a second notice of the same trial changes nothing.

        What goes wrong here is raised by the next `suggest`: an exception at this place is to Ray a failure of the
        trial, and the search would go on without the result.
        """
        candidate_id = self._running.pop(trial_id, None)
        if candidate_id is None:
            if result and not error:
                self._take_stray(result)
        elif error:
            self._take_crash(candidate_id, trial_id)
        elif result is None:
            self._tell(candidate_id, _failed("the trial was stopped before it reported anything"))
        else:
            self._first_crashes.end()
            self._tell(candidate_id, read_evaluation(result, self.metrics))

    def reconcile(self, trials: Sequence[Any]) -> None:
        """Bring the record of what is out in line with the trials that Ray has after a restore.

        Trials that ended meanwhile are told, unfinished ones are waited for, and candidates that no trial carries are
        suggested again. With no trials, so are all candidates that were out.
        """
        carried: dict[str, str] = {}
        for trial in trials:
            if trial.is_finished():
                is_error = trial.status == "ERROR"
                result = None if is_error else flatten_dict(trial.last_result)
                self.on_trial_complete(trial.trial_id, result=result, error=is_error)
            elif (candidate := self._candidate_of(trial.config)) is not None:
                carried[trial.trial_id] = candidate.trial_id
        self._running = carried
        self._queue = deque(key for key in self._candidates if key not in carried.values())

    def requeue(self, candidates: Iterable[Trial]) -> None:
        """Take candidates that the strategy was asked for already, to be suggested first."""
        for candidate in candidates:
            self._candidates[candidate.trial_id] = candidate
            self._queue.append(candidate.trial_id)

    def add_known(self, architecture: Architecture, evaluation: Evaluation, *, candidate_id: str | None = None) -> None:
        """Take an evaluation that was made before, by this search or another.

        A candidate that waits to be suggested is told it; else it is kept for when the strategy asks for it. A failed
        one counts only for the candidate that it was made for.

        Args:
            architecture: What was evaluated.
            evaluation: What came of it.
            candidate_id: This search's own candidate that it was made for.
        """
        if candidate_id is not None:
            self._own[candidate_id, architecture.arch_id] = evaluation
        for key in [key for key in self._queue if self._candidates[key].architecture == architecture]:
            if evaluation.status != "failed" or key == candidate_id:
                self._tell(key, evaluation, is_new=False)
        self._remember(architecture, evaluation)

    def get_state(self) -> dict[str, Any]:
        """Return the state of the strategy and of what is out, as JSON."""
        return {
            "strategy": self.strategy.state_dict(),
            "candidates": {key: trial.architecture.to_json() for key, trial in self._candidates.items()},
            "running": dict(self._running),
            "queue": list(self._queue),
            "crashes": dict(self._crashes),
            "known": {key: evaluation.to_json() for key, evaluation in self._known.items()},
        }

    @reading_state()
    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what `get_state` gave.

        Raises:
            ValueError: If it is something else.
        """
        self.strategy.load_state_dict(state["strategy"])
        self._candidates = {
            # Ray names folders after candidates.
            check_name(key, "candidate"): Trial(trial_id=key, architecture=Architecture.from_json(value))
            for key, value in state["candidates"].items()
        }
        self._running, self._queue = build(dict[str, str], state["running"]), deque(build(list[str], state["queue"]))
        if not set(self._queue) <= self._candidates.keys():
            raise ValueError("`queue` must name candidates, got others.")
        self._crashes = build(dict[str, int], state["crashes"])
        self._known = {key: read_result(value) for key, value in state["known"].items()}

    def save(self, checkpoint_path: str) -> None:
        """Write the state as JSON, whole or not at all."""
        path = Path(checkpoint_path)
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(self.get_state(), allow_nan=False), encoding="utf-8")
        part.replace(path)

    def restore(self, checkpoint_path: str) -> None:
        """Read what `save` wrote.

        Raises:
            ValueError: If the file is not whole.
        """
        try:
            self.set_state(build(dict[str, Any], read_json(Path(checkpoint_path))))
        except StateError as error:
            raise ValueError(f"{checkpoint_path} is damaged: {error}") from error
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{checkpoint_path} is truncated or damaged ({reason(error)}). Start the search anew."
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_record": None, "_error": None, "_crash_of": None}

    def _next(self) -> Trial | None:
        if self._queue:
            return self._candidates[self._queue.popleft()]
        while (trial := self.strategy.ask()) is not None:
            arch_id = trial.architecture.arch_id
            known = self._known.get(arch_id) or self._own.get((trial.trial_id, arch_id))
            if known is None:
                self._candidates[trial.trial_id] = trial
                return trial
            self.strategy.tell(trial.trial_id, known)
        return None

    def _take_crash(self, candidate_id: str, trial_id: str) -> None:
        if candidate_id not in self._candidates:
            return
        failure = self._crash_of(trial_id) if self._crash_of else None
        crashes = self._crashes[candidate_id] = self._crashes.get(candidate_id, 0) + 1
        self._error = self._first_crashes.note(trial_id, failure, len(self._running)) or self._error
        if failure is not None and failure.is_final:
            self._tell(candidate_id, failure.evaluation())
        elif crashes <= self._max_retries:
            self._queue.append(candidate_id)
        else:
            note = f"crashed {crashes} time(s); see error.txt of trial {trial_id}"
            status, reason = (failure.status, f"{failure.reason}; {note}") if failure else ("failed", note)
            self._tell(candidate_id, Evaluation(status=status, reason=reason))

    def _take_stray(self, result: Mapping[str, Any]) -> None:
        """Take the result of a trial that is not on the record, as after a restore of an older state."""
        config = {key: result.get(f"config/{key}") for key in (CANDIDATE_ID, ARCHITECTURE)}
        if None in config.values():
            return
        evaluation = read_evaluation(result, self.metrics)
        candidate = self._candidate_of(config)
        if candidate is not None:
            self._tell(candidate.trial_id, evaluation)
        else:
            self._remember(candidate_architecture(config), evaluation)

    def _candidate_of(self, config: Mapping[str, Any]) -> Trial | None:
        """Return the candidate that a configuration names, if it is one that is to be told."""
        candidate = self._candidates.get(str(config.get(CANDIDATE_ID)))
        is_same = candidate is not None and architecture_text(candidate.architecture) == config.get(ARCHITECTURE)
        return candidate if is_same else None

    def _tell(self, candidate_id: str, evaluation: Evaluation, *, is_new: bool = True) -> None:
        candidate = self._candidates.pop(candidate_id, None)
        if candidate is None:
            return
        self._crashes.pop(candidate_id, None)
        if candidate_id in self._queue:
            self._queue.remove(candidate_id)
        self._remember(candidate.architecture, evaluation)
        try:
            if is_new and self._record is not None:
                self._record(candidate, evaluation)
            self.strategy.tell(candidate_id, evaluation)
        except Exception as error:
            self._error = error

    def _remember(self, architecture: Architecture, evaluation: Evaluation) -> None:
        if evaluation.status != "failed":
            self._known.setdefault(architecture.arch_id, evaluation)


def _failed(reason: str) -> Evaluation:
    return Evaluation(status="failed", reason=reason)
