"""What a run's program was started with, and how the program is started again to go on with it.

A run directory may come from anybody. So nothing in it says which file is run: only which of nasray's own programs,
with options that this program reads itself. Options that reach out of the run directory are not taken from it.

Every command notes its start, so Ray and torch are imported only where a run is brought back.
"""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import typer

from nasray.records import RunDirectory, RunError
from nasray.redaction import hide_passwords

PROGRAMS = ("netadapt_imagenet", "evolve_cifar", "nsga2_pareto", "msranas_cifar")
"""What may be started again, by the names of the files in the folder `experiments`."""

API = "api"
"""The preset of runs that `nasray.search` makes, which no program can go on with."""

PROGRAM = "program"
"""Where it stands in `run.json`: `name`, `options` ([option] or [option, value]), `paths` (those that name files)."""

_ASKED_AGAIN = {
    "--storage": "writes to a database",
    "--address": "joins a Ray cluster",
    "--storage-path": "writes to a storage",
}
"""Options that reach out of the run directory; `--json` is left out, as the figures are in the run directory too."""
_LEFT_OUT = ("--resume", "--run-dir", "--json", "--dry-run")

_started: ContextVar[tuple[Callable[..., Any], list[str]] | None] = ContextVar("started", default=None)


def note_start(main: Callable[..., Any], arguments: Sequence[str] | None) -> None:
    """Remember what this process was started with, for `started_program`."""
    _started.set((main, list(sys.argv[1:] if arguments is None else arguments)))


def started_program() -> dict[str, Any] | None:
    """Return what the run's record keeps of how its program was started; None if it is none of `PROGRAMS`.

    Paths are made absolute, so that the program can be started from another folder.
    """
    started = _started.get()
    if started is None:
        return None
    main, arguments = started
    name = Path(inspect.unwrap(main).__code__.co_filename).stem
    if name not in PROGRAMS:
        return None
    given = list(_given_options(main, arguments))
    options = [[hide_passwords(text) for text in option] for option, _ in given]
    return {"name": name, "options": options, "paths": sorted({option[0] for option, is_path in given if is_path})}


def resume(run_dir: Path | str, more: Sequence[str]) -> int:
    """Go on with a run: this process becomes its program. Returns only if there is nothing to do.

    Args:
        run_dir: The run directory; or the URI of the run's folder on a storage, from which it is brought back.
        more: Options in place of those that the run was started with, or besides.

    Returns:
        The exit status if the run is finished and nothing else was asked for: 0.

    Raises:
        ValueError: If there is no run, another process writes it, its records are damaged, or its program or an option
            cannot be used; the message says what to do.
    """
    from nasray.report import write_report
    from nasray.tune.storage_folder import is_uri

    where: list[str] = []
    if is_uri(str(run_dir)):
        run_dir, more, where = _brought_back(str(run_dir), more)
    folder = Path(run_dir).resolve()
    run = RunDirectory.open(folder)
    is_done = run.run.get("status") == "done"
    for sentence in _repaired(folder):
        print(sentence)
    if is_done and not more:
        if not (folder / "report.html").exists():  # there was no room for it
            write_report(run)
        print(f"{run_dir} is finished, there is nothing to go on with. Its report: {folder / 'report.html'}")
        return 0
    path, options = program_command(run, [*more, *where])
    command = [sys.executable, str(path), *options, "--resume", "--run-dir", str(folder)]
    print(f"Going on: {shlex.join(map(hide_passwords, command[1:]))}", flush=True)
    return os.execv(sys.executable, command)


def _brought_back(uri: str, more: Sequence[str]) -> tuple[Path, list[str], list[str]]:
    """Bring a run back from a storage; returns its run directory, the other options, and that which names the storage.

    Raises:
        RunError: If there is none, another process goes on with it, or it would replace a run that is here.
    """
    from nasray.tune.run_storage import fetch

    more = list(more)
    given = _taken_out(more, "--run-dir")
    folder, storage = fetch(uri, None if given is None else Path(given))
    print(f"Brought back to {folder}.")
    return folder, more, [f"--storage-path={storage}"]


def _taken_out(options: list[str], name: str) -> str | None:
    """Take an option out of a command line and return its value; None if it is not there."""
    for index, text in enumerate(options):
        if text == name and index + 1 < len(options):
            value = options[index + 1]
            del options[index : index + 2]
            return value
        if text.startswith(f"{name}="):
            del options[index]
            return text.partition("=")[2]
    return None


def program_command(run: RunDirectory, more: Sequence[str]) -> tuple[Path, list[str]]:
    """Return the file of a run's program and its options, without those that say which run to go on with.

    Raises:
        ValueError: If the record names no program of nasray, or an option cannot be taken from it.
    """
    name, options, paths = _recorded_program(run)
    path = _program_file(name)
    replaced = {text.partition("=")[0] for text in more if text.startswith("--")}
    if named := sorted(replaced & {"--resume", "--run-dir"}):
        raise ValueError(f"`{named[0]}` must be left out: the run is {run.path}.")
    kept = [option for option in options if option[0] not in {*replaced, *_LEFT_OUT}]
    if "--json" not in replaced and any(option[0] == "--json" for option in options):
        print("`--json` is not taken from the run's record. Add it to write the figures again.")
    for option in kept:
        _check_option(run, option, is_path=option[0] in paths)
    return path, [*("=".join(option) for option in kept), *more]


def _repaired(folder: Path) -> list[str]:
    """Repair the records if nobody else writes them, and record what was done."""
    run = RunDirectory.to_repair(folder)
    try:
        notices = run.repair()
        for sentence in notices:
            run.add_notice(sentence)
    finally:
        run.close()
    return notices


def _recorded_program(run: RunDirectory) -> tuple[str, list[list[str]], list[str]]:
    """Return name, options and paths of the recorded program.

    Raises:
        RunError: If they are missing or not what `started_program` gives.
    """
    program = run.run.get(PROGRAM)
    if run.run.get("preset") == API:
        raise RunError(
            f"{run.path} is of `nasray.search`, which alone knows its space and evaluator. Call it again with the same "
            "arguments, this run_dir and resume=True."
        )
    if not isinstance(program, Mapping) or program.get("name") not in PROGRAMS:
        raise RunError(
            f"{run.path / 'run.json'} must name one of nasray's programs ({', '.join(PROGRAMS)}) to be resumed by this "
            "command. Start its own program again with --resume --run-dir."
        )
    options, paths = program.get("options"), program.get("paths")
    if not isinstance(paths, list) or not isinstance(options, list) or not all(map(_is_option, options)):
        raise RunError(f"`{PROGRAM}` in {run.path / 'run.json'} is damaged. Start the program again with --resume.")
    return str(program["name"]), options, paths


def _is_option(value: object) -> bool:
    """Whether a value is the name of an option, with or without the option's value; never an argument by itself."""
    if not isinstance(value, list) or len(value) not in (1, 2) or not all(isinstance(text, str) for text in value):
        return False
    return value[0].startswith("--") and "=" not in value[0] and len(value[0]) > 2


def _check_option(run: RunDirectory, option: Sequence[str], *, is_path: bool) -> None:
    """Refuse an option that reaches out of the run directory, or names a file that is not here."""
    name = option[0]
    again = f"Give it again: nasray resume {run.path} {name} ..."
    if name in _ASKED_AGAIN and option[-1] != "auto":
        what = _ASKED_AGAIN[name]
        raise ValueError(f"`{name}` {what} and is not taken from the run's record, which has {option[-1]}. {again}")
    if is_path and len(option) == 2 and not Path(option[1]).exists():
        raise ValueError(f"`{name}` must name what exists, but {option[1]} of the run's record is not here. {again}")


def _program_file(name: str) -> Path:
    """Return the file of a program: beside this package, or in the current folder.

    Raises:
        ValueError: If it is in neither.
    """
    folders = [Path(__file__).resolve().parents[2] / "experiments", Path.cwd() / "experiments"]
    for folder in folders:
        if (path := folder / f"{name}.py").is_file():
            return path
    raise ValueError(
        f"The program {name}.py must lie in {' or '.join(map(str, folders))}. Start nasray in the project's folder."
    )


def _given_options(main: Callable[..., Any], arguments: Sequence[str]) -> Iterator[tuple[list[str], bool]]:
    """Yield the options that were given, as `[name]` or `[name, value]`, and whether the value is a path."""
    app = typer.Typer(add_completion=False)
    app.command()(main)
    command = typer.main.get_command(app)
    context = command.make_context("program", list(arguments), resilient_parsing=True)
    for parameter in command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE" or not parameter.opts:
            continue
        value = context.params[parameter.name or ""]
        for each in value if isinstance(value, (list, tuple)) else [value]:
            yield _option(parameter, each), isinstance(each, Path)


def _option(parameter: Any, value: Any) -> list[str]:
    name = max(parameter.opts, key=len)
    if isinstance(value, bool):
        return [name] if value else [max(parameter.secondary_opts, key=len)]
    return [name, str(value.absolute() if isinstance(value, Path) else value)]
