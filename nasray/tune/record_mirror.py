"""A run's records on a remote storage: a copy of the run directory as it was at one moment, whatever is killed when.

What is copied is named after its content and is never replaced; a manifest, written after all that it names, says which
copies make up the run directory. So a copy that was broken off leaves the one before, on any storage, without renaming
and without replacing, which not every storage does at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from nasray.reading import build, parse_json
from nasray.records import RunError
from nasray.records.files import check_name, write_bytes_whole, writing
from nasray.tune.storage_folder import StorageFolder, cause, reaching

EVERY_S = 30.0
"""How often records are copied at most, besides when something is finished."""
_SHARE = 0.05
_NOT_COPIED = "ray"
_MANIFEST, _FILES = "manifest-{:08d}.json", "files"


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    """The SHA-256 of each file, by its path in the run directory."""

    files: dict[str, str]

    def __post_init__(self) -> None:
        for path, digest in self.files.items():
            if not _is_safe(path):
                raise ValueError(f"{path!r} is no path in a run directory")
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise ValueError(f"{digest!r} is no SHA-256")

    def objects(self) -> set[str]:
        return set(self.files.values())


class RecordMirror:
    """Copies what changed in a run directory, from the thread that writes it, between two of its writes.

    Ray's own state is left out, and files with names that could lead elsewhere, or are hidden.

    Args:
        run_dir: The run directory.
        folder: The copy.
        may_write: Asked before anything is written or removed, which then must not be done by another process. May
            raise `OSError`; always true by default.
    """

    def __init__(self, run_dir: Path, folder: StorageFolder, may_write: Callable[[], bool] = lambda: True) -> None:
        self._run_dir, self._folder, self._files = run_dir, folder, folder / _FILES
        self._may_write = may_write
        self._known: dict[str, tuple[tuple[int, int], str]] = {}  # by path: size and time of change, SHA-256
        self._manifests: list[tuple[int, _Manifest]] | None = None
        self._tried: set[str] = set()  # SHA-256 of next manifests, which may be there although writing them failed
        self._next_s = 0.0
        self.problem: str | None = None
        self.is_overtaken = False
        """Whether another process goes on with the copy, so that this one leaves it alone from now on."""

    def is_due(self) -> bool:
        """Return whether to copy, as that was not done for a while; it takes at most a twentieth of the time."""
        return time.monotonic() >= self._next_s

    def push(self) -> bool:
        """Copy what changed.

        Returns:
            Whether the copy is what the run directory is now. If not, `problem` says why, and the one before stays.
        """
        start = time.monotonic()
        try:
            self._push()
            self.problem = None
        except _OvertakenError as error:
            self.is_overtaken, self.problem = True, str(error)
        except OSError as error:
            self.problem = cause(error)
        end = time.monotonic()
        self._next_s = end + max(EVERY_S, (end - start) / _SHARE)
        return self.problem is None

    def _push(self) -> None:
        self._check()
        if self._manifests is None:
            self._manifests = self._found()
        there = {digest for _, manifest in self._manifests for digest in manifest.objects()}
        now = {}
        for path, file in sorted(_files_in(self._run_dir)):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                now[path] = self._copied(path, file, there)
        manifest = _Manifest(files=now)
        if not self._manifests or self._manifests[-1][1] != manifest:
            self._check()  # copying files may have taken long
            number = self._manifests[-1][0] + 1 if self._manifests else 1
            content = json.dumps({"files": now}).encode()
            self._tried.add(_sha256(content))
            self._folder.write(_MANIFEST.format(number), content)
            self._manifests.append((number, manifest))
            self._tried.clear()
        self._forget()

    def _check(self) -> None:
        """Make sure that no other process writes the copy, or did: what this one knows of it would be out of date.

        Raises:
            _OvertakenError: If one does.
        """
        is_overtaken = self.is_overtaken or not self._may_write()
        if not is_overtaken and self._manifests is not None:
            newest = self._manifests[-1][0] if self._manifests else 0
            newer = [number for number in _numbers(self._folder) if number > newest]
            is_overtaken = bool(newer) and not (newer == [newest + 1] and self._is_tried(newest + 1))
        if is_overtaken:
            raise _OvertakenError("another process went on with the run")

    def _is_tried(self, number: int) -> bool:
        """Whether a manifest is one that this process failed to write, whole or in part."""
        if not self._tried or _read(self._folder, number) is None:
            return bool(self._tried)
        return _sha256(self._folder.read(_MANIFEST.format(number))) in self._tried

    def _copied(self, path: str, file: Path, there: set[str]) -> str:
        """Return the SHA-256 of a file that is there, after copying it if need be."""
        status = file.stat()
        mark = (status.st_size, status.st_mtime_ns)
        known = self._known.get(path)
        if known is not None and known[0] == mark and known[1] in there:
            return known[1]
        content = file.read_bytes()
        digest = _sha256(content)
        if digest not in there:
            self._files.write(digest, content)
            there.add(digest)
        self._known[path] = (mark, digest)
        return digest

    def _found(self) -> list[tuple[int, _Manifest]]:
        """Return the manifests that an earlier process left, the newest last, after removing what none names."""
        numbers = sorted(_numbers(self._folder))
        found = [(number, _read(self._folder, number) or _Manifest(files={})) for number in numbers]
        named = {digest for _, manifest in found for digest in manifest.objects()}
        for name in set(self._files.files()) - named:
            self._files.remove_file(name)
        return found

    def _forget(self) -> None:
        """Remove all but the newest manifest, and what only the others name: the newest is whole."""
        assert self._manifests is not None
        *older, (_, newest) = self._manifests
        for number, manifest in older:
            self._folder.remove_file(_MANIFEST.format(number))
            for name in manifest.objects() - newest.objects():
                self._files.remove_file(name)
        self._manifests = self._manifests[-1:]


class _OvertakenError(Exception):
    """Another process goes on with the copy."""


def has_records(folder: StorageFolder) -> bool:
    """Return whether a storage holds a run's records.

    Raises:
        RunError: If the storage cannot be read.
    """
    with reaching(folder):
        return bool(_numbers(folder))


def read_record(folder: StorageFolder, path: str) -> bytes | None:
    """Return a file of the newest records; None if they have none.

    Raises:
        RunError: If the storage cannot be read, or the records are damaged.
    """
    with reaching(folder):
        digest = _newest(folder).files.get(path)
        return None if digest is None else _content(folder, path, digest)


def bring_back(folder: StorageFolder, run_dir: Path) -> None:
    """Make a run directory of the newest records on a storage.

    Args:
        folder: The records.
        run_dir: A folder that does not exist, or is empty; a run directory only once all is there.

    Raises:
        RunError: If there are none, they are damaged, the storage cannot be read or the folder cannot be written.
    """
    with writing(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        if any(run_dir.iterdir()):
            raise RunError(f"{run_dir} must be new or empty to bring a run back, but is not. Choose another --run-dir.")
    with reaching(folder):
        files = dict(_newest(folder).files)
        # `run.json` makes a run of the folder, so it comes last.
        for path in sorted(files, key=lambda path: path == "run.json"):
            content = _content(folder, path, files[path])
            with writing(run_dir / path):
                (run_dir / path).parent.mkdir(parents=True, exist_ok=True)
            write_bytes_whole(run_dir / path, content)


def _newest(folder: StorageFolder) -> _Manifest:
    for number in sorted(_numbers(folder), reverse=True):
        if (found := _read(folder, number)) is not None:
            return found
    raise RunError(f"{folder} holds no run that can be read. Name the folder of a run: <--storage-path>/<its name>.")


def _content(folder: StorageFolder, path: str, digest: str) -> bytes:
    try:
        content = (folder / _FILES).read(digest)
    except FileNotFoundError:
        content = b""
    if _sha256(content) != digest:
        raise RunError(f"{path} in {folder} is missing or damaged. Restore {_FILES}/{digest} there from a copy.")
    return content


def _read(folder: StorageFolder, number: int) -> _Manifest | None:
    """Return a manifest; None if it is not there, or a crash tore it."""
    try:
        return build(_Manifest, parse_json(folder.read(_MANIFEST.format(number))))
    except (FileNotFoundError, ValueError):
        return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _numbers(folder: StorageFolder) -> list[int]:
    names = (name.removeprefix("manifest-").removesuffix(".json") for name in folder.files())
    return [int(name) for name in names if len(name) == 8 and name.isdigit()]


def _files_in(run_dir: Path) -> Iterator[tuple[str, Path]]:
    for place, folders, names in os.walk(run_dir):
        folders[:] = [name for name in folders if name[0] != "." and Path(place, name) != run_dir / _NOT_COPIED]
        for path in (Path(place, name) for name in names):
            relative = path.relative_to(run_dir).as_posix()
            if _is_safe(relative) and path.is_file() and not path.is_symlink():
                yield relative, path


def _is_safe(path: str) -> bool:
    """Whether a path stays inside a run directory, and outside of what is Ray's there."""
    try:
        parts = [check_name(part, "path") for part in path.split("/")]
    except RunError:
        return False
    return parts[0] != _NOT_COPIED
