"""Imports go one way, and importing the package is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nasray"

# What a part of the package may import of the package. Data flows from the first to the last.
MAY_IMPORT = {
    "reading": set(),
    "redaction": set(),
    "architecture": set(),
    "evaluation": set(),
    "failures": {"evaluation"},
    "pareto": set(),
    "objectives": set(),
    "formulations": {"objectives", "pareto"},
    "regularised": {"objectives", "formulations"},
    "archive": {"architecture", "evaluation", "objectives", "formulations", "pareto"},
    "spaces": {"architecture"},
    "models": {"architecture", "spaces"},
    "hardware": {"architecture", "spaces", "models", "carbon"},
    "data": set(),
    "strategies": {"architecture", "evaluation", "spaces", "pareto", "objectives", "formulations"},
    "optuna_study": {"architecture", "evaluation", "spaces", "objectives", "formulations", "strategies"},
    "training": {"architecture", "evaluation", "failures", "spaces", "models", "data", "hardware"},
    "records": {"objectives", "pareto", "__version__"},
    "carbon": {"objectives", "records"},
    "differentiable": {"architecture", "spaces", "models", "hardware", "carbon", "training", "data"},
    "causes": {"failures"},
    "report": {"architecture", "evaluation", "objectives", "formulations", "pareto", "archive", "causes", "spaces"}
    | {"records", "carbon"},
}
EVERYWHERE = {"reading", "redaction"}
LAST = {"tune", "commands", "cli", "__init__"}
HEAVY = {
    "ray": {"tune"},
    "torch": {"models", "hardware", "data", "training", "differentiable", "tune", "commands"},
    "optuna": {"optuna_study"},
}


def part_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    part = part_of(path)
    for name in imported(path):
        root, _, rest = name.partition(".")
        if root == "nasray" and part not in LAST:
            other = rest.split(".")[0]
            assert other == part or other in MAY_IMPORT[part] | EVERYWHERE, f"{part} must not import {name}"
        if root in HEAVY:
            assert part in HEAVY[root], f"{part} must not import {root}"
        assert root != "torchvision", "torchvision has no build for every torch"


def test_every_part_has_a_rule():
    assert {part_of(path) for path in FILES} <= MAY_IMPORT.keys() | LAST


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("ray", "torch", "optuna", "plotly", "pynvml", "pandas")
    code = f"import sys, nasray; print([name for name in {heavy!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent
    )
    assert result.stdout.strip() == "[]"


def test_top_level_holds_only_what_was_agreed():
    agreed = {"pyproject.toml", "nasray", "experiments", "tests", "dashboards", "README.md"}
    listed = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, check=False, cwd=PACKAGE.parent
    ).stdout.splitlines()
    names = {Path(name).parts[0] for name in listed}
    assert {name for name in names if not name.startswith(".")} <= agreed
