"""Studies on disk, in a form that outlives a killed process and that optuna-dashboard opens meanwhile."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

from nasray.formulations import Formulation
from nasray.objectives import Direction
from nasray.redaction import hide_passwords

_LOCK_GRACE_S = 5

LEFT_RUNNING = "left running by a process that ended"


def open_storage(storage: str | Path | None) -> BaseStorage:
    """Open where studies are kept.

    Args:
        storage: None keeps them in memory; a URL, as `sqlite:///study.db`, names a database; anything else is the
            path of a journal file, made if missing.

    Raises:
        ValueError: If the folder of a journal file does not exist, the file is damaged or the URL cannot be opened.
    """
    if storage is None:
        return InMemoryStorage()
    if "://" in str(storage):
        return _database(str(storage))
    path = Path(storage)
    if not path.parent.is_dir() or path.is_dir():
        raise ValueError(f"`storage` must be a file in a folder that exists, or a URL, got {path}.")
    _mend_tail(path)
    # A process that is killed while it writes leaves Optuna's lock behind; writing takes milliseconds.
    lock = JournalFileSymlinkLock(str(path), grace_period=_LOCK_GRACE_S)
    try:
        return JournalStorage(JournalFileBackend(str(path), lock))
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged ({error}). Rename it: a run that goes on fills a new study from its own records."
        ) from error


def close_storage(storage: BaseStorage) -> None:
    """Let go of a database's connections."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def new_study(storage: BaseStorage, directions: Sequence[Direction]) -> optuna.Study:
    """Make a study without a name; whoever asks brings the sampler."""
    with _quiet():
        return optuna.create_study(storage=storage, directions=directions, sampler=RandomSampler())


def open_study(
    storage: BaseStorage,
    name: str,
    *,
    space: str,
    formulation: Formulation,
    distributions: Mapping[str, BaseDistribution],
) -> optuna.Study:
    """Open a study or make it; trials that a killed process left running are closed as failed.

    Args:
        storage: Where it is kept.
        name: Its name.
        space: Name of the search space.
        formulation: Its objectives become the study's directions and metric names.
        distributions: The space's choices.

    Raises:
        ValueError: If a study of this name has another space, other objectives, constraints or choices.
    """
    directions = [objective.direction for objective in formulation.objectives]
    described = {
        "space": space,
        "objectives": [f"{o.direction} {o.name}" for o in formulation.objectives],
        "constraints": [str(constraint) for constraint in formulation.constraints],
    }
    with _quiet():
        study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
        _check_same(study, described, directions, distributions)
        study.set_metric_names([objective.name for objective in formulation.objectives])
    for key in described.keys() - study.user_attrs.keys():
        study.set_user_attr(key, described[key])
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        trial_id = storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(name), trial.number)
        storage.set_trial_user_attr(trial_id, "reason", LEFT_RUNNING)
        study.tell(trial.number, state=TrialState.FAIL)
    return study


def _check_same(
    study: optuna.Study,
    described: Mapping[str, object],
    directions: Sequence[Direction],
    distributions: Mapping[str, BaseDistribution],
) -> None:
    """Refuse a study that was made for another search."""
    expected = {"directions": list(directions), **described}
    found = {"directions": [direction.name.lower() for direction in study.directions], **study.user_attrs}
    for key, value in expected.items():
        if found.get(key, value) != value:
            raise ValueError(
                f"`study_name` must be new or have the {key} {value}, got {study.study_name!r} with {found[key]}. "
                "Choose another name or storage."
            )
    for trial in study.get_trials(deepcopy=False):
        names = trial.distributions.keys() | distributions.keys()
        differing = sorted(name for name in names if trial.distributions.get(name) != distributions.get(name))
        if trial.params and differing:
            raise ValueError(
                f"`study_name` must be new or have the choices of this space, got {study.study_name!r} with another "
                f"{', '.join(differing[:3])}. Choose another name or storage."
            )


def _database(url: str) -> RDBStorage:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with _quiet():
            return RDBStorage(url)
    except (SQLAlchemyError, ImportError) as error:
        # Without the cause, whose traceback would show the address that is hidden here.
        sentence = hide_passwords((str(error).splitlines() or [type(error).__name__])[0])
        raise ValueError(
            f"`storage` must be a database that can be opened, got {hide_passwords(url)}: {sentence}. "
            "Check the address, the password and the driver."
        ) from None


def _mend_tail(path: Path) -> None:
    """Cut away a last line that a killed process tore: Optuna would append to it and then refuse the whole file."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing what it does."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # naming the metrics is, to Optuna
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
