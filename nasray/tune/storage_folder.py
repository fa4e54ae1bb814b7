"""A folder on any storage that pyarrow reaches: this machine's disk, S3, GCS, HDFS, or what fsspec offers."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from nasray.records import RunError
from nasray.redaction import hide_passwords

EXAMPLES = "s3://bucket/runs, gs://bucket/runs, hdfs://host/runs or file:///mnt/runs"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


@dataclass(frozen=True)
class StorageFolder:
    """A folder, which need not exist: object stores have none, only files whose names begin alike.

    Nothing here renames, as object stores cannot. A file that a crash tore may be there under its name on a disk, and
    is not there at all on an object store; whoever reads has to tell.

    Args:
        filesystem: Of pyarrow. It is sent to workers with what it was given of keys, and without what it found in the
            environment.
        path: On that file system, without a slash at its end.
        scheme: Of its URI; empty for a folder of this machine that no URI named.
    """

    filesystem: FileSystem
    path: str
    scheme: str = ""

    @classmethod
    def of(cls, uri: str) -> StorageFolder:
        """Return the folder that a URI, or an absolute path, names.

        Raises:
            ValueError: If it names none, or what reaches it is not installed; a password in it is not repeated.
        """
        try:
            filesystem, path = FileSystem.from_uri(uri)
        except (ValueError, OSError, ImportError) as error:
            cause = hide_passwords(str(error).splitlines()[0]) if "@" not in str(error) else type(error).__name__
            raise ValueError(f"`storage-path` must be a URI such as {EXAMPLES}, got {_shown(uri)} ({cause}).") from None
        if not path.strip("/"):
            raise ValueError(f"`storage-path` must name a folder or a bucket, got {_shown(uri)}. Use {EXAMPLES}.")
        return cls(filesystem, path.rstrip("/"), uri.partition("://")[0] if is_uri(uri) else "file")

    @classmethod
    def local(cls, path: str | Path) -> StorageFolder:
        """Return a folder of this machine, or one that is mounted here."""
        return cls(LocalFileSystem(), str(Path(path).resolve()))

    def __truediv__(self, name: str) -> StorageFolder:
        return StorageFolder(self.filesystem, f"{self.path}/{name}", self.scheme)

    def __str__(self) -> str:
        """Return how people call it; without user, password, host and options."""
        return f"{self.scheme}://{self.path}" if self.scheme else self.path

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rpartition("/")[2]

    def files(self) -> list[str]:
        """Return the names of its files."""
        return self._names(FileType.File)

    def folders(self) -> list[str]:
        """Return the names of its folders."""
        return self._names(FileType.Directory)

    def _names(self, kind: FileType) -> list[str]:
        found = self.filesystem.get_file_info(FileSelector(self.path, allow_not_found=True))
        return sorted(entry.base_name for entry in found if entry.type == kind)

    def read(self, name: str) -> bytes:
        """Return what a file holds.

        Raises:
            OSError: If it is not there or cannot be read.
        """
        with self.filesystem.open_input_stream(f"{self.path}/{name}", compression=None) as file:
            content: bytes = file.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write a file.

        Raises:
            OSError: If it cannot be written.
        """
        path = f"{self.path}/{name}"
        try:
            file = self.filesystem.open_output_stream(path, compression=None)
        except FileNotFoundError:  # object stores need no folder, and would be asked twice for every file
            self.filesystem.create_dir(path.rpartition("/")[0])
            file = self.filesystem.open_output_stream(path, compression=None)
        with file:
            file.write(content)

    def remove_file(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            OSError: If it cannot be removed.
        """
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(f"{self.path}/{name}")

    def remove(self) -> None:
        """Remove the folder with all that is in it, if it is there.

        Raises:
            OSError: If it cannot be removed.
        """
        with contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_dir(self.path)


@contextlib.contextmanager
def reaching(folder: StorageFolder) -> Iterator[None]:
    """Say in one sentence that the block could not reach a storage.

    Raises:
        RunError: In place of an `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{folder} cannot be read or written ({cause(error)}). Check that the storage is up and that this machine "
            "may write there."
        ) from error


def cause(error: BaseException) -> str:
    """Return the first sentence of what a storage says is wrong."""
    return hide_passwords((str(error).strip() or type(error).__name__).splitlines()[0])


def is_uri(text: str) -> bool:
    """Return whether a text names a storage, and no path."""
    return _SCHEME.match(text) is not None


def parent_of(uri: str) -> tuple[str, str]:
    """Return the URI of the folder above, with the same options, and the name in it."""
    place, mark, options = uri.partition("?")
    parent, _, name = place.rstrip("/").rpartition("/")
    return f"{parent}{mark}{options}", name


def child_of(uri: str, name: str) -> str:
    """Return the URI of what has a name in a folder, with the same options."""
    place, mark, options = uri.partition("?")
    return f"{place.rstrip('/')}/{name}{mark}{options}"


def _shown(uri: str) -> str:
    """Return a URI without all that may be a password, also where it is none that can be read."""
    return re.sub(r"(?<=://)[^@\s]*@", "***@", uri.partition("?")[0])
