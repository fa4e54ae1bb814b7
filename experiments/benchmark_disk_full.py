"""Fill the disk while a program runs, make room again, go on, and check that nothing is lost and nothing counts twice.

Each run has a file system of its own in memory, which is filled by a ballast file at some moment; mounting it takes the
rights of root. The run must end with exit status 1 and one sentence, its records must be whole, and gone on with, it
must find what a run found that was never disturbed. "Greedy" means that the ballast takes what the run gives up, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from _benchmark import Parser, at_least

from nasray.records import RunDirectory
from nasray.records.disk import has_reserve
from nasray.tune.disk_space import folder_bytes

_HERE = Path(__file__).resolve().parent
_LAST_S, _STEP_S, _CHUNK = 900.0, 0.02, b"\0" * (1 << 16)
PROGRAMS = {
    "nsga2_pareto": ["--space", "tabular", "--architecture", "a,b,c", "--maximize", "accuracy"]
    + ["--minimize", "latency_ms", "--population-size", "10"],
    "evolve_cifar": ["--only-accuracy", "--population-size", "4", "--epochs", "1", "--workers", "1"],
    "netadapt_imagenet": ["--epochs", "3", "--final-epochs", "2", "--samples", "4", "--cost", "macs"]
    + ["--target", "70%", "--first-reduction", "0.1", "--workers", "1"],
}
_SIZES = {"nsga2_pareto": ("--evaluations", 1200), "evolve_cifar": ("--evaluations", 10)}


@dataclass(kw_only=True)
class Outcome:
    """What came of one filling.

    Attributes:
        program: Which.
        moment: Share of the undisturbed run's time at which the disk was filled.
        is_greedy: Whether the ballast took what the run gave up as well.
        found: What the run had recorded by then.
        status: Its exit status.
        said: Its last line on standard error.
        ended_s: Seconds from the filling to its end.
        problems: What was wrong, a sentence each.
    """

    program: str
    moment: float
    is_greedy: bool
    found: str = ""
    status: int | None = None
    said: str = ""
    ended_s: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A run that nobody disturbed.

    Args:
        result: What it found.
        seconds: From its first record to its end.
        peak_bytes: Most that its folder held.
        left_bytes: What it left.
        announced_bytes: By the bill.
    """

    result: Any
    seconds: float
    peak_bytes: int
    left_bytes: int
    announced_bytes: int


@contextlib.contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    """Mount a file system in memory.

    Raises:
        PermissionError: If that is not allowed.
    """
    folder.mkdir()
    size = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    if subprocess.run(size, capture_output=True, check=False).returncode:
        raise PermissionError("Mounting a small file system takes the rights of root. Run this as root on Linux.")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def undisturbed(program: str, options: Sequence[str], work: Path, size_mb: int) -> Undisturbed:
    """Run a program to its end, and see how much it takes of the disk meanwhile.

    Raises:
        RuntimeError: If it fails.
    """
    with small_disk(work / "disk", size_mb) as disk:
        run_dir, peak, begin = disk / "run", 0, 0.0
        with started(program, [*options, "--run-dir", str(run_dir)], work / "log") as process:
            while process.poll() is None:
                peak = max(peak, folder_bytes(run_dir))
                begin = begin or (time.monotonic() if (run_dir / "run.json").exists() else 0.0)
                time.sleep(_STEP_S)
            seconds = time.monotonic() - begin
        if process.returncode:
            raise RuntimeError(f"{program} failed: {last_line(work / 'log')}")
        run = RunDirectory.open(run_dir)
        return Undisturbed(
            result=result_of(run),
            seconds=seconds,
            peak_bytes=peak,
            left_bytes=folder_bytes(run_dir),
            announced_bytes=run.run["bill"]["total"]["disk_bytes"],
        )


def fill_and_go_on(
    program: str, options: Sequence[str], expected: Undisturbed, moment: float, work: Path, size_mb: int, greedy: bool
) -> Outcome:
    """Fill the disk of a run at a moment, make room when it has ended, and go on."""
    outcome = Outcome(program=program, moment=moment, is_greedy=greedy)
    with small_disk(work / "disk", size_mb) as disk:
        run_dir, ballast, log = disk / "run", disk / "ballast", work / "log"
        with started(program, [*options, "--run-dir", str(run_dir)], log) as process:
            _wait_for(process, run_dir / "run.json")
            end = time.monotonic() + moment * expected.seconds
            while process.poll() is None and time.monotonic() < end:
                time.sleep(_STEP_S)
            outcome.found = progress_of(run_dir)
            begin = time.monotonic()
            while process.poll() is None and time.monotonic() < begin + _LAST_S:
                if greedy or has_reserve(run_dir):
                    fill(ballast)
                time.sleep(_STEP_S)
            outcome.ended_s = time.monotonic() - begin
        outcome.status, outcome.said = process.returncode, last_line(log)
        outcome.problems += wrong_end(outcome, run_dir, log)
        rows = lines_of(run_dir)
        ballast.unlink(missing_ok=True)
        if outcome.status:
            outcome.problems += go_on(program, options, run_dir, log)
        if lines_of(run_dir)[: len(rows)] != rows:
            outcome.problems.append("evaluations that were recorded are gone or changed.")
        if not outcome.problems and result_of(RunDirectory.open(run_dir)) != expected.result:
            outcome.problems.append("the result is not that of an undisturbed run.")
        if not outcome.problems and not (run_dir / "report.html").exists():
            outcome.problems.append("there is no report.")
    return outcome


def go_on(program: str, options: Sequence[str], run_dir: Path, log: Path) -> list[str]:
    """Go on with a run; returns what was wrong."""
    with started(program, [*options, "--resume", "--run-dir", str(run_dir)], log) as process:
        process.wait(_LAST_S)
    return [f"going on ended with status {process.returncode}: {last_line(log)}"] if process.returncode else []


def wrong_end(outcome: Outcome, run_dir: Path, log: Path) -> list[str]:
    """Return what was wrong with the end of a run whose disk was full."""
    problems = []
    if outcome.status == 0:
        return []  # what was left to write fitted into what was given up
    if outcome.status != 1:
        problems.append(f"the exit status is {outcome.status}.")
    if "Traceback" in log.read_text(errors="replace"):
        problems.append("there is a traceback.")
    if not re.match(r"Error: .+ cannot be written \(.+\)\. Free .+ --resume", outcome.said):
        problems.append(f"it said: {outcome.said}")
    try:
        run = RunDirectory.open(run_dir)
        run.evaluations()
        run.read_json("energy.json")
    except ValueError as error:
        problems.append(str(error))
    if left := [path.name for path in run_dir.glob(".*.tmp")]:
        problems.append(f"parts of files are left: {left}.")
    return problems


@contextlib.contextmanager
def started(program: str, options: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in a process group of its own, which is ended at the end."""
    path = os.pathsep.join(filter(None, [str(_HERE.parent), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, str(_HERE / f"{program}.py"), *options, "--no-progress"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, start_new_session=True, env=os.environ | {"PYTHONPATH": path}
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def fill(ballast: Path) -> None:
    """Let a file grow until nothing more fits."""
    with ballast.open("ab", buffering=0) as file:
        for chunk in (_CHUNK, _CHUNK[:4096]):
            with contextlib.suppress(OSError):
                while file.write(chunk):
                    pass


def result_of(run: RunDirectory) -> Any:
    """Return what a run found, without times and energies."""
    if run.run.get("results"):
        kept = ("label", "arch_id", "test_accuracy", "macs", "parameters", "samples", "iterations")
        return [[row.get(name) for name in kept] for row in run.run["results"]]
    metrics = ("accuracy", "parameters", "latency_ms")
    return [[row["arch_id"], *(row["metrics"].get(name) for name in metrics)] for row in run.evaluations()]


def progress_of(run_dir: Path) -> str:
    """Return what a run has recorded so far, in words."""
    with contextlib.suppress(ValueError):
        finished = RunDirectory.open(run_dir).run.get("finished", {})
        stages = "".join(f", {stage} finished {len(trials)}" for stage, trials in finished.items())
        checkpoints = sum(1 for _ in run_dir.glob("ray/*/*/checkpoint_*"))
        return f"{len(lines_of(run_dir))} evaluations{stages}, {checkpoints} checkpoints"
    return "no record"


def lines_of(run_dir: Path) -> list[bytes]:
    """Return the whole lines of the record."""
    path = run_dir / "evaluations.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def last_line(log: Path) -> str:
    """Return what a program said last about an error, or else last."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
    return next((line for line in reversed(lines) if line.startswith("Error:")), lines[-1])


def _wait_for(process: subprocess.Popen[bytes], path: Path) -> None:
    while process.poll() is None and not path.exists():
        time.sleep(_STEP_S)


def table(path: Path) -> None:
    """Write a table of 8,000 networks."""
    rows = [(a, b, c) for a in range(20) for b in range(20) for c in range(20)]
    frame = pd.DataFrame(rows, columns=list("abc"))
    frame["latency_ms"], frame["accuracy"] = (
        frame.a + 2.0 * frame.b + frame.c,
        1 - 1 / (1 + frame.a + frame.b * frame.c),
    )
    frame.to_csv(path, index=False)


def main() -> int:
    """Fill the disk of each program at each moment; the status is 1 if anything was wrong, 2 without the rights."""
    parser = Parser(__doc__)
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--moments", nargs="+", type=float, default=[0.0, 0.2, 0.5, 0.8], help="shares of its time")
    parser.add_argument("--size-mb", type=at_least(32), default=256, help="of the file system")
    parser.add_argument("--evaluations", type=at_least(1), help="of each search; by default 1200, and 10 trained ones")
    parser.add_argument("--greedy", action="store_true", help="take what the run gives up as well")
    given = parser.parse_args()
    outcomes, references = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table(folder / "table.csv")
        for program in given.programs:
            options = [
                *PROGRAMS[program],
                *(["--table", str(folder / "table.csv")] if program == "nsga2_pareto" else []),
            ]
            if program in _SIZES:
                options += [_SIZES[program][0], str(given.evaluations or _SIZES[program][1])]
            try:
                expected = undisturbed(program, options, _new(folder), given.size_mb)
            except PermissionError as error:
                print(error)
                return 2
            references[program] = asdict(expected) | {"result": None}
            print(
                f"{program}: {expected.seconds:.0f} s undisturbed; announced {expected.announced_bytes / 1e6:.1f} MB, "
                f"left {expected.left_bytes / 1e6:.1f} MB, at most {expected.peak_bytes / 1e6:.1f} MB",
                flush=True,
            )
            for moment in given.moments:
                outcome = fill_and_go_on(program, options, expected, moment, _new(folder), given.size_mb, given.greedy)
                outcomes.append(outcome)
                print(
                    f"  filled at {moment:.0%} ({outcome.found}): status {outcome.status} after {outcome.ended_s:.1f} s"
                )
                print(f"    {outcome.said}")
                print(f"    {'; '.join(outcome.problems) or 'went on; nothing lost, nothing twice'}", flush=True)
    if given.json:
        rows = {"undisturbed": references, "outcomes": [asdict(outcome) for outcome in outcomes]}
        given.json.write_text(json.dumps(rows, indent=1))
    return int(any(outcome.problems for outcome in outcomes))


def _new(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=folder))


if __name__ == "__main__":
    sys.exit(main())
