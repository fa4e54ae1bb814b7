"""A run whose checkpoints and records live on a storage that outlasts the machine it was started on."""

from __future__ import annotations

from pathlib import Path

from pyarrow.fs import LocalFileSystem

from nasray.reading import parse_json
from nasray.records import RunDirectory, RunError
from nasray.records.files import check_name, read_object
from nasray.tune.checkpoint_store import CheckpointStore
from nasray.tune.driver_lease import DriverLease
from nasray.tune.record_mirror import RecordMirror, bring_back, has_records, read_record
from nasray.tune.storage_folder import StorageFolder, parent_of

NAME = "storage_name"
"""Where a run's name on the storage stands in `run.json`."""

_LATE = "The storage could not be written at times: until it could, its copy of the records was behind."
_RECORDS, _RAY, _RUN = "records", "ray", "run.json"


class RunStorage:
    """A run's folder on a storage: Ray's checkpoints under `ray/`, the run directory's copy under `records/`.

    The run directory itself stays on the driver's disk, where locks and appended lines work. One process has the
    folder at a time (see `DriverLease`).

    Args:
        folder: The run's own.

    Raises:
        RunError: If another process goes on with the run, or the storage cannot be written.
    """

    def __init__(self, folder: StorageFolder) -> None:
        self.folder, self.checkpoints = folder, CheckpointStore(folder / _RAY)
        self._lease = DriverLease(folder)
        self._run: RunDirectory | None = None
        self._mirror: RecordMirror | None = None

    @classmethod
    def open(cls, uri: str, run_dir: Path, *, resume: bool) -> RunStorage:
        """Take a run's folder; to resume where there is no run directory, bring it back first.

        Args:
            uri: Of the storage, which holds a folder for each run.
            run_dir: The run directory; its name is the run's on the storage, unless its record has another.
            resume: Whether the run is to go on.

        Raises:
            ValueError: If the URI names no storage, the storage holds a run of that name although `resume` is false,
                or newer records than the run directory, or there is nothing to resume, or it is damaged.
        """
        is_here = (run_dir / _RUN).exists()
        name = read_object(run_dir / _RUN).get(NAME) if resume and is_here else None
        folder = StorageFolder.of(uri) / check_name(name or run_dir.absolute().name, NAME)
        _check_apart(folder, run_dir)
        records = folder / _RECORDS
        is_there = has_records(records)
        if not resume and is_there:
            raise RunError(f"{folder} already holds a run. Add --resume to go on, or choose another --run-dir.")
        if resume and not is_there and not is_here:
            raise RunError(f"{folder} holds no run to resume, nor does {run_dir}. Correct --storage-path or --run-dir.")
        storage = cls(folder)
        try:
            if resume and is_there:
                _bring_back_or_check(records, run_dir)
        except BaseException:
            storage.close()
            raise
        return storage

    def keep(self, run: RunDirectory) -> None:
        """Begin to copy the records of a run; before that, nothing is.

        Raises:
            RunError: If they cannot be written.
        """
        self._run, self._mirror = run, RecordMirror(run.path, self.folder / _RECORDS, self._lease.holds)
        if run.run.get(NAME) != self.folder.name:
            run.update(**{NAME: self.folder.name})
        self.finish()

    def push(self) -> bool:
        """Copy the records that changed; returns whether all are there.

        If the storage is away, they come later. If another process took the run over, they never do.
        """
        if self._mirror is None or self._run is None or self._lease.is_lost:
            return False
        if self._mirror.push():
            return True
        if self._mirror.is_overtaken:
            self._lease.lose()
        else:
            self._run.add_notice(_LATE)
        return False

    def push_if_due(self) -> None:
        """Copy the records that changed, if that was not done for a while.

        Raises:
            RunError: If another process took the run over.
        """
        self._lease.check()
        if self._mirror is not None and self._mirror.is_due():
            self.push()
            self._lease.check()

    def finish(self) -> None:
        """Copy the records, which have to be there.

        Raises:
            RunError: If they cannot be written, or another process took the run over.
        """
        self._lease.check()
        if not self.push():
            self._lease.check()
            problem = self._mirror.problem if self._mirror else "no run is kept there"
            raise RunError(
                f"{self.folder} cannot be written ({problem}). The run directory has everything; once the "
                "storage is up, go on with the same command and --resume."
            )

    def close(self) -> None:
        """Let other processes go on with the run."""
        self._lease.release()


def fetch(uri: str, run_dir: Path | None) -> tuple[Path, str]:
    """Bring the run directory of a run back from its folder on a storage.

    Args:
        uri: Of the run's folder.
        run_dir: Where to; None for a folder of its name under `runs/`.

    Returns:
        The run directory, and the URI of the storage, as `--storage-path` names it.

    Raises:
        RunError: If there is no run, another process goes on with it, or a run directory is there already.
    """
    place, name = parent_of(uri)
    folder = StorageFolder.of(place) / check_name(name, "name of the run")
    run_dir = run_dir or Path("runs") / name
    if (run_dir / _RUN).exists():
        raise RunError(
            f"{run_dir} holds a run already. Go on with it by `nasray resume {run_dir} --storage-path ...`, or bring "
            "this one back to another --run-dir."
        )
    if not has_records(folder / _RECORDS):
        raise RunError(f"{folder} holds no run. Name a run's folder: its --storage-path, a slash and its name.")
    lease = DriverLease(folder)
    try:
        bring_back(folder / _RECORDS, run_dir)
    finally:
        lease.release()
    return run_dir, place


def _check_apart(folder: StorageFolder, run_dir: Path) -> None:
    """Refuse a storage inside of the run directory, or around it: the copy would be a part of what is copied."""
    here, there = run_dir.resolve(), Path(folder.path)
    if isinstance(folder.filesystem, LocalFileSystem):
        there = there.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise ValueError(f"`storage-path` must lead out of the run directory {here}, got {folder}. Name another.")


def _bring_back_or_check(records: StorageFolder, run_dir: Path) -> None:
    """Bring a run directory back, or make sure that the one that is here is not behind the storage's."""
    if not (run_dir / _RUN).exists():
        bring_back(records, run_dir)
        return
    there, here = parse_json(read_record(records, _RUN) or b"{}"), read_object(run_dir / _RUN)
    if any(there.get(key) != here.get(key) for key in ("created", "seed", "configuration_digest")):
        raise RunError(
            f"{records} must hold the run of {run_dir}, got another one of the same name. Choose another "
            "--storage-path, or another --run-dir."
        )
    if str(there.get("updated", "")) > str(here.get("updated", "")):
        raise RunError(
            f"{run_dir} must not be older than the run's records in {records}, got {here.get('updated')} and there "
            f"{there.get('updated')}: the run went on elsewhere. Move this folder away, and start again to bring those "
            "back."
        )
