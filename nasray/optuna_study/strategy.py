"""Any Optuna sampler behind the contract of a search strategy."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from nasray.architecture import Architecture
from nasray.evaluation import Evaluation
from nasray.formulations import Formulation, Pareto
from nasray.optuna_study.record import evaluation_of, finish, trial_from_json, trial_to_json, was_evaluated
from nasray.optuna_study.samplers import SeededSampler, distribution
from nasray.optuna_study.storage import close_storage, new_study, open_storage, open_study
from nasray.reading import build
from nasray.spaces.space import SearchSpace
from nasray.strategies.candidate_search import TRIES, Candidate, CandidateSearch
from nasray.strategies.strategy import State, reading_state

REPEATS = 10
"""Proposals in a row that may be known already before a new architecture is drawn at random."""


@dataclass(frozen=True, kw_only=True)
class _SavedTrial:
    """What `trial_to_json` gives."""

    state: str
    values: list[float] | None
    params: dict[str, int | float | str | bool]
    user_attrs: dict[str, Any]
    system_attrs: dict[str, Any]


class OptunaStrategy(CandidateSearch):
    """Ask an Optuna sampler, and keep what came of it in a study.

    The sampler works on a study in memory. Each trial is copied to `study` once it is finished, in one write: a killed
    process leaves no trial running there, and only what was out is lost. A trial's values are the objectives; the
    other metrics, `arch_id`, and why it failed are user attributes.

    Architectures are told apart by their canonical form. Where a sampler proposes a known one, its trial is answered
    from the record (`duplicate_of` is the number of the first trial) and the sampler is asked again; one that is
    still out fails the trial. After `REPEATS` in a row an unseen architecture is drawn at random, until the space
    seems to have none.

    A study of this name that is there already is continued: its architectures (`num_continued` of them) count as
    asked and are not asked again. `load_state_dict` goes back to the state, whatever else the study on disk has
    learned since.

    Args:
        space: What to search. Evenly spaced whole numbers keep their order; all other options are categories.
        formulation: A `Pareto`. Its constraints reach the sampler with their measured values.
        num_evaluations: How many candidates to ask for, those of a continued study included.
        generator: Source of randomness.
        sampler: One of `SAMPLERS`.
        population_size: Trials of a generation of nsga2 or nsga3; None for Optuna's 50.
        storage: None for memory, a URL such as `sqlite:///study.db`, or the path of a journal file.
        study_name: Name of the study in the storage.
        initial: Architectures to evaluate first.

    Raises:
        ValueError: If a setting is out of its range, the formulation is another, the storage cannot be opened, or it
            holds a study of this name with another space, other objectives, constraints or choices.

    Source: Optuna 5 (Akiba et al. 2019); NSGA-II: Deb et al. 2002; NSGA-III: Deb and Jain 2014; TPE: Bergstra et al.
    2011. Deviation: the Gaussian process is fitted without its last fit to start from, so that a search can resume.
    """

    def __init__(
        self,
        space: SearchSpace,
        formulation: Formulation,
        *,
        num_evaluations: int,
        generator: np.random.Generator,
        sampler: str = "nsga2",
        population_size: int | None = None,
        storage: str | Path | None = None,
        study_name: str = "nasray",
        initial: Sequence[Architecture] = (),
    ) -> None:
        if not isinstance(formulation, Pareto):
            kind = type(formulation).__name__
            raise ValueError(f"`formulation` of an Optuna study must be Pareto, got {kind}. Use another strategy.")
        super().__init__(space, formulation, num_evaluations=num_evaluations, generator=generator, initial=initial)
        self._samplers = SeededSampler(sampler, population_size)
        self._distributions = {name: distribution(options) for name, options in space.choices.items()}
        self._storage = open_storage(storage)
        self.study = open_study(
            self._storage,
            study_name,
            space=space.name,
            formulation=formulation,
            distributions=self._distributions,
        )
        self._first_numbers: dict[Architecture, int] = {}
        self._written: deque[FrozenTrial] = deque()
        self._start([])
        self._continue_study()

    def close(self) -> None:
        """Let go of the storage. Candidates that are out leave no trace in the study."""
        close_storage(self._storage)

    def state_dict(self) -> State:
        """Return the whole state as JSON."""
        study_id = self._memory.get_study_id_from_name(self._sampled.study_name)
        return super().state_dict() | {
            "trials": [trial_to_json(trial) for trial in self._sampled.get_trials(deepcopy=False)],
            "told": list(self._told),
            "num_recorded": self._num_recorded,
            "sampler": self._memory.get_study_system_attrs(study_id),
        }

    @reading_state()
    def load_state_dict(self, state: State) -> None:
        """Continue from a state that `state_dict` gave, in a strategy that was made with the same arguments."""
        super().load_state_dict(state)
        saved = _read_saved(state)
        self._start(saved["trials"])
        study_id = self._memory.get_study_id_from_name(self._sampled.study_name)
        for key, value in saved["sampler"].items():
            self._memory.set_study_system_attr(study_id, key, value)
        self._go_back_in_study(saved["num_recorded"])
        recorded = set(self._first_numbers)
        trials = self._sampled.get_trials(deepcopy=False)
        if not all(0 <= number < len(trials) for number in saved["told"]):
            raise ValueError(f"`told` must number the {len(trials)} trials, got others.")
        for number in saved["told"]:
            if (architecture := self.space.canonical(trials[number].params)) not in recorded:
                self._record(trials[number], architecture)
        self._told.extend(saved["told"])

    def _next(self) -> Architecture | None:
        for architecture in self._initial:
            if architecture not in self._known:
                return self._suggest(architecture)
        for _ in range(REPEATS):
            self.num_proposed += 1
            if (architecture := self._propose()) not in self._known:
                return architecture
        for _ in range(TRIES):
            self.num_proposed += 1
            if (architecture := self.space.random(self._generator)) not in self._known:
                return self._suggest(architecture)
        left = self._left_over()
        return None if left is None else self._suggest(left)

    def _propose(self) -> Architecture:
        return self._suggest()

    def _suggest(self, architecture: Architecture | None = None) -> Architecture:
        """Start a trial, of the sampler's choice if no architecture is given; a known one is told at once."""
        self._sampled.sampler = self._samplers.seeded(self._generator)
        if architecture is not None:
            self._sampled.enqueue_trial(dict(architecture.choices))
        trial = self._sampled.ask(self._distributions)
        if architecture is not None and self._samplers.has_population:
            _ = trial.relative_params  # gives the trial its generation; one whose choices are fixed has none
        architecture = self.space.canonical(trial.params)
        if architecture not in self._known:
            self._out[architecture] = trial
        else:
            self._tell(trial, architecture, self.result(architecture))
        return architecture

    def _learn(self, trial_id: str, candidate: Candidate | None) -> None:
        architecture = self.architecture(trial_id)
        if architecture in self._out:  # a state that is loaded brings its trials itself
            self._tell(self._out.pop(architecture), architecture, self._results[trial_id])

    def _forget(self) -> None:
        self._out.clear()

    def _tell(self, trial: optuna.Trial, architecture: Architecture, evaluation: Evaluation | None) -> None:
        finished = finish(
            self._sampled,
            trial,
            architecture,
            evaluation,
            formulation=self.formulation,
            duplicate_of=self._first_numbers.get(architecture),
        )
        self._told.append(trial.number)
        self._record(finished, architecture)

    def _record(self, trial: FrozenTrial, architecture: Architecture) -> None:
        if self._written and _is_same(self._written[0], trial):
            self._written.popleft()
        else:
            self._written.clear()
            self.study.add_trial(trial)
        if was_evaluated(trial):
            self._first_numbers.setdefault(architecture, self._num_recorded)
        self._num_recorded += 1

    def _go_back_in_study(self, num_recorded: int) -> None:
        """Expect the trials that a killed process wrote after a state: told again, they are not written again."""
        trials = self.study.get_trials(deepcopy=False)
        self._num_recorded = min(num_recorded, len(trials))
        self._written = deque(trials[self._num_recorded :])
        self._first_numbers = {
            architecture: number for architecture, number in self._first_numbers.items() if number < self._num_recorded
        }

    def _continue_study(self) -> None:
        """Take over what a study that was there already has learned."""
        trials = self.study.get_trials(deepcopy=False)
        self._num_recorded = len(trials)
        for trial in filter(was_evaluated, trials):
            architecture = self.space.canonical(trial.params)
            self._sampled.add_trial(trial)
            self._told.append(len(self._told))
            if architecture not in self._known:
                self._first_numbers[architecture] = trial.number
                self._results[self._take(architecture)] = evaluation_of(trial, self.formulation)
        self.num_continued = len(self._asked)
        if self._told:
            # Or else the random proposals of the earlier process would come again.
            self._generator = np.random.default_rng([len(self._told), int(self._generator.integers(2**63))])

    def _start(self, trials: Sequence[Mapping[str, Any]]) -> None:
        """Make the study in memory with these trials; those that are running are out."""
        self._memory = InMemoryStorage()
        directions = [objective.direction for objective in self.formulation.objectives]
        self._sampled = new_study(self._memory, directions)
        self._samplers.reset()
        self._told: list[int] = []
        self._out: dict[Architecture, optuna.Trial] = {}
        study_id = self._memory.get_study_id_from_name(self._sampled.study_name)
        for number, saved in enumerate(trials):
            trial = trial_from_json(saved, self._distributions)
            self._sampled.add_trial(trial)
            if trial.state == TrialState.RUNNING:
                trial_id = self._memory.get_trial_id_from_study_id_trial_number(study_id, number)
                self._out[self.space.canonical(trial.params)] = optuna.Trial(self._sampled, trial_id)


def _read_saved(state: State) -> dict[str, Any]:
    """Return what a state holds besides that of every `CandidateSearch`, if it has the types that it should."""
    build(list[_SavedTrial], state.get("trials"))
    kinds: dict[str, Any] = {"trials": list[dict[str, Any]], "told": list[int], "num_recorded": int, "sampler": dict}
    saved = {name: build(kind, state.get(name)) for name, kind in kinds.items()}
    if saved["num_recorded"] < 0:
        raise ValueError(f"`num_recorded` must be 0 or more, got {saved['num_recorded']}.")
    return saved


def _is_same(one: FrozenTrial, other: FrozenTrial) -> bool:
    """Whether two trials have the same choices and results."""
    return (one.params, one.state, one.values) == (other.params, other.state, other.values)
