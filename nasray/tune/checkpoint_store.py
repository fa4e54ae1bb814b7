"""Where a run's checkpoints lie, on a disk or a remote storage: which is the newest whole one, and which are kept.

The rule, for the run as a whole: of each unfinished trial the newest whole checkpoint and the one before it, of a
finished one none, as its result and its weights are on the record. Weights of trained networks and of supernets stay:
exports, measurements and a resumed run are made from them.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nasray.records import RunDirectory
from nasray.tune.checkpoints import PROGRESS, STATE, is_whole
from nasray.tune.storage_folder import StorageFolder

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_NUM_KEPT = 2
_HEADS = (PROGRESS, STATE, "checkpoint_manager_snapshot.json")
"""Without these nothing is a checkpoint, nor one that Ray Train would look for."""


class CheckpointStore:
    """The checkpoints of a run: a folder `<stage>-<attempt>/<trial>/checkpoint_<number>` each.

    Those that the workers of a data-parallel training write are in `train/train-<stage>-<trial>/`.

    Args:
        folder: Folder of Ray's state.
    """

    def __init__(self, folder: StorageFolder) -> None:
        self.folder = folder

    @classmethod
    def local(cls, path: Path) -> CheckpointStore:
        """Return the checkpoints in a folder of this machine."""
        return cls(StorageFolder.local(path))

    @property
    def filesystem(self) -> FileSystem:
        """What the paths of checkpoints are on."""
        return self.folder.filesystem

    def newest(self, stage: str, name: str) -> str | None:
        """Return the path of a trial's newest checkpoint that can be read whole, from any attempt at its stage.

        Ray's own restore goes back to its last snapshot of the whole experiment, which lags behind the trials and is
        not written atomically; the trials' checkpoints are looked at one by one instead.

        Raises:
            OSError: If the storage does not answer.
        """
        return self._newest_whole(stage, name)[0]

    def to_resume(self, run: RunDirectory, stage: str, names: Iterable[str]) -> dict[str, str]:
        """Return the newest whole checkpoint of each trial that has one, and note in the record what is lost.

        Args:
            run: Where it is noted, and which trials were begun.
            stage: Name of the stage.
            names: Trials that are about to start.
        """
        begun: Mapping[str, list[str]] = run.run.get("begun", {})
        found, names = dict[str, str](), list(names)
        for name in names:
            whole, num_torn = self._newest_whole(stage, name)
            if whole is not None:
                found[name] = whole
                if num_torn:
                    run.add_notice(
                        f"{num_torn} damaged checkpoint(s) of {name} ({stage}) are passed over: it goes on from "
                        f"{whole}."
                    )
            elif name in begun.get(stage, []):
                run.add_notice(f"{name} ({stage}) starts anew: it was begun before, but has no whole checkpoint.")
        run.update(begun={**begun, stage: sorted({*begun.get(stage, []), *names})})
        return found

    def next_attempt(self, stage: str) -> str:
        """Return a name for a new attempt at a stage."""
        return f"{stage}-{max(self._attempts(stage), default=0) + 1}"

    def remove_finished(self, stage: str, name: str) -> None:
        """Remove all checkpoints of a trial that is finished, once its result and weights are where a run resumes."""
        for folder in self._of_attempts(stage, name):
            _remove(folder)
        # With what Ray Train knows of them: it would look for those that it finds listed.
        _remove(self._data_parallel(stage, name))

    def remove_outdated(self, stage: str, name: str) -> None:
        """Remove the checkpoints of an unfinished trial but the newest whole one and the one before it.

        Call it while no attempt runs: Ray itself keeps as many of the attempt that does, and Ray Train of its own.
        """
        num_whole = 0
        for folder in self._of_attempts(stage, name):
            if num_whole < _NUM_KEPT and is_whole(folder):
                num_whole += 1
            else:
                _remove(folder)

    def _newest_whole(self, stage: str, name: str) -> tuple[str | None, int]:
        """Return the newest whole checkpoint of a trial, and how many newer ones are damaged."""
        num_torn = 0
        for folder in self._all(stage, name):
            if is_whole(folder):
                return folder.path, num_torn
            # One without a head was never finished, or a process was killed while it removed it.
            num_torn += not set(_HEADS).isdisjoint(folder.files())
        return None, num_torn

    def _all(self, stage: str, name: str) -> Iterator[StorageFolder]:
        """Yield a trial's checkpoints, the newest first."""
        yield from self._of_attempts(stage, name)
        # Written by the workers of a data-parallel training, which has no checkpoint of its own before its end.
        yield from _checkpoints_in(self._data_parallel(stage, name))

    def _of_attempts(self, stage: str, name: str) -> Iterator[StorageFolder]:
        for number in sorted(self._attempts(stage), reverse=True):
            yield from _checkpoints_in(self.folder / f"{stage}-{number}" / name)

    def _attempts(self, stage: str) -> list[int]:
        pattern = re.compile(rf"{re.escape(stage)}-(\d+)")
        return [int(found[1]) for name in self.folder.folders() if (found := pattern.fullmatch(name))]

    def _data_parallel(self, stage: str, name: str) -> StorageFolder:
        return self.folder / "train" / f"train-{stage}-{name}"


def _checkpoints_in(folder: StorageFolder) -> list[StorageFolder]:
    """Return the checkpoints in a trial's folder, the newest first."""
    return [folder / name for name in reversed(folder.folders()) if name.startswith("checkpoint_")]


def _remove(folder: StorageFolder) -> None:
    """Remove a folder so that it is no checkpoint from the first step on; one that stays is no harm.

    That order, and not a rename, as object stores have none: a process may be killed between any two steps.
    """
    with contextlib.suppress(OSError):
        for name in _HEADS:
            folder.remove_file(name)
        folder.remove()
