"""`nasray.search`: a whole search in one call, with everything that the programs do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from torch import nn

from nasray.architecture import Architecture
from nasray.carbon.budget import Budget
from nasray.data import ImageData
from nasray.formulations import Pareto
from nasray.models.build import NetworkSpace
from nasray.objectives import Constraint, Objective
from nasray.records import RunDirectory
from nasray.report import write_report
from nasray.spaces.elastic_space import ElasticSpace
from nasray.spaces.space import SearchSpace
from nasray.strategies.candidate_pool import KnownMetrics
from nasray.training.config import TrainingConfig
from nasray.tune.energy.settings import EnergySettings
from nasray.tune.problems.function import EvaluationFunction, FunctionProblem
from nasray.tune.problems.problem import Place, Problem
from nasray.tune.problems.shared import SharedProblem
from nasray.tune.problems.trained import TrainedProblem
from nasray.tune.program import new_run_path, open_storage, recorded
from nasray.tune.progress import StageProgress
from nasray.tune.resume_command import API
from nasray.tune.search_result import SearchResult
from nasray.tune.session import ClusterConfig
from nasray.tune.strategy_by_name import strategy_by_name


@dataclass(frozen=True)
class Training:
    """An evaluator that trains every candidate, from scratch or all of them at once, and measures it.

    Its metrics are `accuracy` (held-out), `test_accuracy` (recorded, and no objective), `parameters`, `macs`,
    `memory_bytes`, `inference_time_s` (of all held-out images together), `training_time_s`, `energy_j`, `carbon_g`, and
    those of `costs`.

    Args:
        data: Images, from `nasray.load_image_data` or `nasray.image_data`.
        epochs: Of each candidate, or of the weights that all share.
        batch_size: Images of a step.
        learning_rate: For 1,024 images; it is scaled with the batch size.
        shares_weights: Whether the networks of an `ElasticSpace` share one set of weights, which is trained before the
            search: a candidate then takes as long as its inference. What is exported is trained further from them. A
            budget ends the search, not this training.
        costs: More metrics by names that are none of these: functions of a trained `torch.nn.Module`, called on the
            worker.
    """

    data: ImageData
    _: KW_ONLY
    epochs: int = 5
    batch_size: int = 64
    learning_rate: float = 0.15
    shares_weights: bool = False
    costs: Mapping[str, Callable[[nn.Module], float]] = field(default_factory=dict)

    def recipe(self) -> TrainingConfig:
        """Return the recipe, whose rate falls by 0.963 eighty times.

        Raises:
            ValueError: If a number is out of range.
        """
        return TrainingConfig(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            decay_epochs=self.epochs / 80,
            warmup_epochs=min(1.0, self.epochs / 8),
            gradient_clip=2.0,
            ema_decay=0.99,
        )


def search(
    space: SearchSpace,
    evaluator: Training | EvaluationFunction,
    *,
    objectives: Sequence[Objective | str],
    constraints: Sequence[Constraint | str] = (),
    strategy: str = "evolution",
    evaluations: int = 100,
    initial: Sequence[Architecture] = (),
    known: KnownMetrics | None = None,
    seed: int = 0,
    run_dir: str | Path | None = None,
    storage_path: str | None = None,
    resume: bool = False,
    workers: int | None = None,
    address: str | None = None,
    timeout_s: float | None = None,
    max_failures: int | None = None,
    place: str = "world",
    pue: float = 1.0,
    budget: Budget | None = None,
    shows_progress: bool = True,
) -> SearchResult:
    """Search a space on Ray, record everything in a run directory, and return what was found.

    Args:
        space: What to search.
        evaluator: A `Training`, or a function from an architecture to its metrics by name, which is sent to Ray's
            workers.
        objectives: What is wanted: "maximize accuracy", "minimize latency_ms", or `Objective`s; the quality first.
        constraints: Limits, such as "parameters<=1e6".
        strategy: One of `nasray.tune.strategy_by_name.STRATEGIES`. "surrogate" needs the fewest evaluations where some
            costs are known before.
        evaluations: Candidates.
        initial: Architectures to evaluate first.
        known: For "surrogate": metrics of an architecture that need no evaluation; by default the parameters and
            multiply-adds of networks that can be built.
        seed: Of search and training.
        run_dir: Folder of the run; by default a new one under `runs/`.
        storage_path: URI of a storage that all nodes reach, as "s3://bucket/runs": a copy of the records is kept there,
            in a folder of the run directory's name, and a run that resumes without its run directory brings it back.
        resume: Whether to go on with the run that is there; what decides its outcome must be the same, but there may
            be more `evaluations`.
        workers: Candidates at a time; by default all GPUs or processors.
        address: Ray cluster: "auto" or its address; by default Ray starts on this machine.
        timeout_s: How long a candidate may take, in seconds.
        max_failures: How many candidates in a row may fail until the search ends; by default ten, or three a worker.
        place: Country or region of the electricity, for its CO2.
        pue: Power usage effectiveness of the data centre.
        budget: Of energy, CO2 or time, at whose end the search ends.
        shows_progress: Whether to show progress on the terminal.

    Raises:
        ValueError: If arguments do not fit each other.
        KeyboardInterrupt: If it was interrupted; `resume=True` goes on.
    """
    if resume and run_dir is None:
        raise ValueError("`run_dir` must name the run to resume, got none.")
    formulation = Pareto([_objective(wanted) for wanted in objectives], [_constraint(limit) for limit in constraints])
    energy = EnergySettings(place=place, pue=pue, budget=budget or Budget())
    problem, data = _problem(space, evaluator, seed)
    problem.check(formulation)
    console = Console(quiet=not shows_progress)
    chosen = strategy_by_name(
        strategy,
        space,
        formulation,
        data,
        known,
        num_evaluations=evaluations,
        seed=seed,
        initial=initial,
        say=partial(console.print, highlight=False, markup=False),
    )
    folder = Path(run_dir or new_run_path(strategy))
    with ExitStack() as stack:
        if storage := open_storage(console, storage_path, folder, resume=resume):
            stack.enter_context(closing(storage))
        run = RunDirectory.create(
            folder,
            method=strategy,
            preset=API,
            configuration=problem.configuration()
            | {
                "objectives": [objective.to_json() for objective in formulation.objectives],
                "constraints": [str(limit) for limit in formulation.constraints],
                "initial": [architecture.arch_id for architecture in initial],
            },
            seed=seed,
            data=problem.data(),
            resume=resume,
        )
        stack.enter_context(closing(run))
        where = Place(
            run=run,
            progress=StageProgress(console, is_quiet=not shows_progress),
            cluster=ClusterConfig(address=address, storage=storage),
            num_workers=workers,
            timeout_s=timeout_s,
            max_failures=max_failures,
            energy=energy,
        )
        with recorded(run, console, storage=storage):
            archive = problem.search(chosen, where)
            if len(formulation.objectives) > 1:
                run.write_front([objective.to_json() for objective in formulation.objectives])
            run.update(status="done")
            write_report(run)
        if storage is not None:
            storage.finish()
    return SearchResult(run, archive, problem, data)


def _problem(
    space: SearchSpace, evaluator: Training | EvaluationFunction, seed: int
) -> tuple[Problem, ImageData | None]:
    if not isinstance(evaluator, Training):
        if not callable(evaluator):
            raise ValueError(f"`evaluator` must be a Training or a function, got {type(evaluator).__name__}.")
        return FunctionProblem(space, evaluator), None
    if not isinstance(space, NetworkSpace):
        raise ValueError(f"`evaluator` must be a function for the space {space.name}, whose networks cannot be built.")
    data, recipe, costs = evaluator.data, evaluator.recipe(), evaluator.costs
    if not evaluator.shares_weights:
        return TrainedProblem(space, data, recipe, seed=seed, costs=costs), data
    if not isinstance(space, ElasticSpace):
        raise ValueError(f"`shares_weights` must be left out for the space {space.name}: it needs an ElasticSpace.")
    return SharedProblem(space, data, recipe, seed=seed, costs=costs), data


def _objective(wanted: Objective | str) -> Objective:
    if isinstance(wanted, Objective):
        return wanted
    direction, _, name = wanted.strip().partition(" ")
    if direction not in ("minimize", "maximize") or not name.strip():
        raise ValueError(f'An objective must read like "maximize accuracy" or "minimize macs", got {wanted!r}.')
    ideal = 1.0 if direction == "maximize" and "accuracy" in name else None
    return Objective(name=name.strip(), direction="maximize" if direction == "maximize" else "minimize", ideal=ideal)


def _constraint(limit: Constraint | str) -> Constraint:
    return limit if isinstance(limit, Constraint) else Constraint.parse(limit)
