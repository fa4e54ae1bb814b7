"""Feed damaged inputs to every parser, and count what came of them: accepted as valid, or refused with which error.

Each input is a valid document of its kind with faults put in: keys dropped or doubled, other types, NaN, 1e400, deep
nesting, torn and flipped bytes, other encodings, pickles, links and folders in a file's place. What is accepted is
checked to mean what it says; any other end than that or one clear sentence fails the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

TESTS = Path(__file__).resolve().parents[1] / "tests" / "malformed"


def main(
    examples: Annotated[
        int | None, typer.Option(min=1, help="Inputs of each parser; by default those of a test run.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only tests whose name holds this, as tables or states.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the counts here as JSON.")] = None,
) -> int:
    """Run the tests of malformed inputs with as many inputs as asked for, and print the counts."""
    if json_file and not json_file.resolve().parent.is_dir():
        raise ValueError(f"`json` must name a file in a folder that exists, got {json_file}. Make the folder first.")
    environment = dict(os.environ)
    if examples:
        environment["NASRAY_MALFORMED_EXAMPLES"] = str(examples)
    if json_file:
        environment["NASRAY_MALFORMED_JSON"] = str(json_file.resolve())
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "--tb=short",
        str(TESTS),
        *(["-k", kind] if kind else []),
    ]
    return subprocess.run(command, cwd=TESTS.parents[1], env=environment, check=False).returncode


if __name__ == "__main__":
    from nasray.tune.cli_errors import exit_status

    sys.exit(exit_status(main))
