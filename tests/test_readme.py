"""README's code: Python blocks are run, command lines are parsed by the programs that they name."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
LINES = [
    line.partition("  #")[0].partition(" # ")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
PROGRAMS = [line for line in LINES if line.startswith("python experiments/")]
COMMANDS = [line for line in LINES if line.startswith("nasray ")]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON, ids=[f"{number}" for number in range(len(PYTHON))])
def test_python_blocks_run(block, tmp_path):
    (tmp_path / "example.py").write_text(block, encoding="utf-8")
    # As a person's own shell has it: nasray's programs, and so other tests, set some of Ray's variables.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TUNE_", "RAY_"))}
    environment = own | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "RAY_USAGE_STATS_ENABLED": "0"}
    found = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert len(block.splitlines()) <= 32, "an example is at most 30 lines"


def parse(main, arguments):
    """Read a command line as the program would, and do nothing."""
    app = typer.Typer()
    app.command()(main)
    typer.main.get_command(app).make_context("program", arguments)


@pytest.mark.parametrize("line", PROGRAMS)
def test_programs_take_the_options_that_are_shown(line):
    _, path, *arguments = shlex.split(line)
    if Path(path).stem.startswith("benchmark_"):
        source = (ROOT / path).read_text(encoding="utf-8") + (ROOT / "experiments/_benchmark.py").read_text("utf-8")
        assert all(f'"{option}"' in source for option in arguments if option.startswith("--"))
        return
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parse(module.main, arguments)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_takes_what_is_shown(line):
    from nasray.cli import app

    group = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    if words[0].startswith("--"):
        assert words[0] in {option for parameter in group.params for option in parameter.opts}
        return
    while hasattr(group, "commands"):
        group = group.commands[words.pop(0)]
    group.make_context("nasray", words)


def test_there_is_something_to_test():
    assert len(PYTHON) >= 6 and len(PROGRAMS) >= 20 and len(COMMANDS) >= 8
