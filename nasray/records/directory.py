"""One run's directory, written so that a run killed at any moment leaves a readable one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from nasray.reading import short
from nasray.records.disk import RESERVE
from nasray.records.evaluation_lines import evaluation_line, read_evaluations
from nasray.records.files import JSON, RunError, cannot_write, check_name, read_object, to_json, write_whole
from nasray.records.front import checked_objective, feasible, front_summary
from nasray.records.identity import SCHEMA, check_same, moves, new_run, now
from nasray.records.lines import append_lines, mend
from nasray.records.lock import LOCK, OWNER, RunLock
from nasray.records.shapes import check_run

RUN_STATUSES = ("running", "done", "interrupted", "failed")

_RUN, _EVALUATIONS, _FRONT = "run.json", "evaluations.jsonl", "front.json"
_NOTHING_TO_RESUME = "{} holds no run to resume. Leave out --resume to start one, or correct --run-dir."


class RunDirectory:
    """The folder with everything that a run leaves: `run.json`, `evaluations.jsonl`, `front.json`, models, a report.

    One process writes and any number may read meanwhile. Made by `create`, which keeps other processes from writing
    until `close` or until this object or the process ends, or by `open`, to read.

    Attributes:
        path: The folder.
        run: Content of `run.json`; change it through `update` only.
    """

    def __init__(self, path: Path, run: dict[str, Any]) -> None:
        self.path = path
        self.run = run
        self._lock: RunLock | None = None

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        method: str,
        preset: str,
        configuration: Mapping[str, JSON],
        seed: int,
        data: Mapping[str, JSON],
        resume: bool,
    ) -> Self:
        """Start a run in a new or empty folder, or continue the one that is there.

        Args:
            path: The folder; its parents are made.
            method: Name of the search method.
            preset: Name of the preset that the configuration came from.
            configuration: Everything that decides the outcome, besides seed and data.
            seed: Seed of every generator.
            data: The data set; its `fingerprint`, if given, has to stay the same to resume.
            resume: Whether to continue the run that is there.

        Raises:
            RunError: If the folder cannot be written, holds something else, holds a run although `resume` is
                false, holds none or a different one although `resume` is true, is being written by another
                process, or its records are damaged where they cannot be repaired.
        """
        folder = Path(path)
        asked = new_run(method=method, preset=preset, configuration=configuration, seed=seed, data=data)
        if resume:
            return cls._resume(folder, asked)
        _make_empty(folder)
        lock = RunLock(folder)
        _make_empty(folder)  # nobody else made a run of it meanwhile
        directory = cls(folder, asked)
        directory._lock = lock
        directory.update()
        return directory

    @classmethod
    def check(cls, path: str | Path, *, resume: bool) -> None:
        """See whether `create` would take a folder, as far as that is known now; nothing is made or changed.

        Raises:
            RunError: If the folder holds something else, a run although `resume` is false, or none although it is true,
                or another process writes it.
        """
        folder = Path(path)
        if not resume:
            _check_empty(folder)
        elif not (folder / _RUN).exists():
            raise RunError(_NOTHING_TO_RESUME.format(folder))
        else:
            cls.to_repair(folder).close()

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a run to read it.

        Raises:
            RunError: If there is no run, or `run.json` is damaged or of another schema.
        """
        folder = Path(path)
        if not (folder / _RUN).exists():
            raise RunError(f"{folder} holds no run ({_RUN} is missing). Give the folder that --run-dir named.")
        run = read_object(folder / _RUN)
        if run.get("schema") != SCHEMA:
            raise RunError(
                f"`schema` in {folder / _RUN} must be {SCHEMA}, got {short(run.get('schema'))}. "
                "Read it with the version of nasray that wrote it."
            )
        check_run(run, folder / _RUN)
        return cls(folder, run)

    @classmethod
    def to_repair(cls, path: str | Path) -> Self:
        """Open a run that nobody else writes, to `repair` it without going on with it; close it afterwards.

        Raises:
            RunError: If there is no run, `run.json` is damaged, or another process writes.
        """
        directory = cls.open(path)
        directory._lock = RunLock(directory.path)
        return directory

    @classmethod
    def _resume(cls, folder: Path, asked: dict[str, Any]) -> Self:
        if not (folder / _RUN).exists():
            raise RunError(_NOTHING_TO_RESUME.format(folder))
        lock = RunLock(folder)
        directory = cls.open(folder)
        directory._lock = lock
        check_same(directory.run, asked)
        for sentence in [*moves(directory.run, asked), *directory.repair()]:
            directory.add_notice(sentence)
        directory.update(status="running")
        return directory

    def close(self) -> None:
        """Let other processes write; nothing happens if that was done before, or the run was opened to read."""
        if self._lock is not None:
            self._lock.release()

    def repair(self) -> list[str]:
        """Repair what a crash may leave of evaluations and front, for whoever may write, and say what was done.

        Returns:
            A sentence for each repair.

        Raises:
            RunError: If evaluations are damaged where that cannot be repaired.
        """
        done = []
        if lost := mend(self.path / _EVALUATIONS):
            done.append(
                f"The last line of {_EVALUATIONS} was torn by a crash ({lost} bytes): that evaluation is made again."
            )
        self.evaluations()  # damage in the middle shows before anything else is done
        objectives = self.run.get("front_objectives")
        # A run that has not come to its end has no front yet, though it says what it is after.
        was_written = (self.path / _FRONT).exists() or self.run.get("status") == "done"
        if objectives and was_written and not _holds_object(self.path / _FRONT):
            self.write_front(objectives)
            done.append(f"{_FRONT} was missing or damaged and is written anew from {_EVALUATIONS}.")
        return done

    def update(self, **fields: Any) -> None:
        """Merge fields into `run.json`, replace it as a whole and set its `updated` time.

        Raises:
            RunError: If a field is not JSON, `status` is unknown or the file cannot be written; then neither the
                file nor `run` changes.
        """
        status = fields.get("status", self.run.get("status"))
        if status not in RUN_STATUSES:
            raise RunError(f"`status` must be one of {', '.join(RUN_STATUSES)}, got {status!r}. Choose one of them.")
        run = {**self.run, **fields, "updated": now()}
        write_whole(self.path / _RUN, to_json(run, "run", indent=1) + "\n")
        self.run = run

    def add_stage(self, name: str, seconds: float, *, started: str, device: str) -> None:
        """Record the time of a stage; a stage of a resumed run adds to what is recorded under its name.

        Args:
            name: The stage, such as "search".
            seconds: Wall-clock time, in seconds.
            started: When it started, ISO 8601; the first start is kept.
            device: Where it ran; devices are listed when a resumed run changes them.

        Raises:
            RunError: If `seconds` is negative or not finite, or the file cannot be written.
        """
        if not 0 <= seconds < float("inf"):
            raise RunError(f"`seconds` must be at least 0 and finite, got {seconds}. Measure with a monotonic clock.")
        stages = {stage["name"]: dict(stage) for stage in self.run.get("stages", [])}
        stage = stages.setdefault(name, {"name": name, "seconds": 0.0, "started": started, "device": device})
        stage["seconds"] += float(seconds)
        if device not in stage["device"].split(", "):
            stage["device"] += f", {device}"
        self.update(stages=list(stages.values()))

    def add_notice(self, text: str) -> None:
        """Record a sentence that whoever reads the figures has to know; the same one is recorded once."""
        notices = self.run.get("notices", [])
        if text not in notices:
            self.update(notices=[*notices, text])

    def append_evaluations(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append evaluations in one write, on the disk when this returns.

        Appending a `sample_id` again replaces it for readers, so that work done twice is counted once.

        Raises:
            RunError: If a row lacks `sample_id`, has an unsafe `arch_id`, an unknown `status` or a value that is
                not JSON (then none is written), or the file cannot be written.
        """
        append_lines(self.path / _EVALUATIONS, [evaluation_line(row) for row in rows])

    def evaluations(self) -> list[dict[str, Any]]:
        """Return the evaluations in the order of their first lines, each as its latest line has it.

        Raises:
            RunError: If a line before the last is damaged, or a line has no `sample_id` or a part of another type.
        """
        return read_evaluations(self.path / _EVALUATIONS)

    def write_json(self, name: str, value: JSON) -> None:
        """Write a file of the run, replacing it as a whole.

        Raises:
            RunError: If the name is unsafe or belongs to `update` or `append_evaluations`, the value is not JSON,
                or the file cannot be written.
        """
        if name in (_RUN, _EVALUATIONS):
            raise RunError(
                f"`name` must not be {_RUN} or {_EVALUATIONS}, got {name!r}. Use update or append_evaluations."
            )
        write_whole(self.path / check_name(name, "name"), to_json(value, name, indent=1) + "\n")

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read a file of the run; `None` if there is none.

        Raises:
            RunError: If the name is unsafe, or the file is damaged or holds no object.
        """
        path = self.path / check_name(name, "name")
        return read_object(path) if path.exists() else None

    def model_directory(self, arch_id: str) -> Path:
        """Return the folder for an architecture's model files, `models/<arch_id>`; it is not made here.

        Raises:
            RunError: If the id could lead out of the run directory.
        """
        return self.path / "models" / check_name(arch_id, "arch_id")

    def aim(self, objectives: Sequence[Mapping[str, Any]]) -> None:
        """Record which fronts the run is after, so that they can be shown before it has ended.

        Args:
            objectives: As for `write_front`; one alone has no front.

        Raises:
            RunError: If the objectives are not so, or the file cannot be written.
        """
        wanted = [checked_objective(objective) for objective in objectives]
        if len(wanted) > 1 and self.run.get("front_objectives") != wanted:
            self.update(front_objectives=wanted)

    def write_front(self, objectives: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Compute the Pareto fronts of the search's ok evaluations, write `front.json` and return its content.

        Those that break a constraint of the run's configuration take no part.

        Args:
            objectives: Mappings with `name`, `unit` and `direction` ("minimize" or "maximize"): the quality first,
                then the costs, each of which gets a front of the quality against it.

        Raises:
            RunError: If the objectives are not so, or the file cannot be written.
        """
        front = front_summary(feasible(self.evaluations(), self.run), objectives)
        self.write_json(_FRONT, front)
        self.aim(front["objectives"])
        return front


def _make_empty(folder: Path) -> None:
    """Make the folder, or raise if it holds anything already."""
    _check_empty(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _check_empty(folder: Path) -> None:
    try:
        if (folder / _RUN).exists():
            raise RunError(f"{folder} already holds a run. Add --resume to continue it or choose another --run-dir.")
        # What a crash left of writing the first run.json is no obstacle.
        ours = (f".{_RUN}.tmp", LOCK, OWNER, RESERVE)
        others = sorted(entry.name for entry in folder.iterdir() if entry.name not in ours) if folder.exists() else ()
    except OSError as error:
        raise cannot_write(folder, error) from error
    if others:
        raise RunError(
            f"{folder} must be new or empty, but it is no run and holds {others[0]}. Choose another --run-dir."
        )


def _holds_object(path: Path) -> bool:
    try:
        read_object(path)
    except RunError:
        return False
    return True
