"""Command lines of every program: exit status 2 and a sentence, or the settings are taken; never a traceback."""

import contextlib
import importlib.util
import io
from pathlib import Path

import pytest
from contract import check
from damage import NAMES
from hypothesis import strategies as st

from nasray import cli
from nasray.tune.cli_errors import exit_status

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NUMBERS = (
    "-1",
    "0",
    "1",
    "1.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "9" * 400,
    "1e-320",
    "abc",
    "",
    " ",
    "0x10",
    "٣",
    "50%",
)
TEXTS = (
    "",
    "x",
    "auto",
    "digits",
    "--",
    "-x",
    "a,b,,",
    "accuracy<=1",
    "macs<=nan",
    "<=5",
    "é\u202e",
    "a\nb",
    "[bold]x[/]",
)
FILES = (*NAMES, "/dev/null", "/proc/self/mem", "nowhere/at/all", __file__)
SHARED = {
    "--seed": NUMBERS,
    "--place": (*TEXTS, *NUMBERS),
    "--pue": NUMBERS,
    "--budget-kwh": NUMBERS,
    "--budget-hours": NUMBERS,
    "--budget-co2-kg": NUMBERS,
    "--run-dir": FILES,
    "--workers": NUMBERS,
    "--json": FILES,
    "--data": FILES,
    "--resume": (None,),
    "--unknown": TEXTS,
    "--epochs": NUMBERS,
}
OPTIONS = {
    "netadapt_imagenet": SHARED
    | {
        "--preset": TEXTS,
        "--network": TEXTS,
        "--cost": TEXTS,
        "--target": (*TEXTS, *NUMBERS),
        "--optimizer": TEXTS,
        "--samples": NUMBERS,
        "--layers": NUMBERS,
        "--first-reduction": NUMBERS,
        "--ordered-dropout": TEXTS,
        "--norm-policy": TEXTS,
        "--distillation": NUMBERS,
        "--label-smoothing": NUMBERS,
        "--survival": NUMBERS,
        "--final-epochs": NUMBERS,
        "--max-train": NUMBERS,
        "--latency-device": TEXTS,
        "--latency-table": FILES,
        "--baseline": TEXTS,
        "--training-workers": NUMBERS,
    },
    "evolve_cifar": SHARED
    | {
        "--evaluations": NUMBERS,
        "--population-size": NUMBERS,
        "--constraint": (*TEXTS, "parameters<=1e5", "macs<=1e400"),
        "--minimize": TEXTS,
        "--inferences": NUMBERS,
        "--carbon-weight": NUMBERS,
        "--timeout": NUMBERS,
    },
    "nsga2_pareto": SHARED
    | {
        "--space": (*TEXTS, "chain", "cell", "tabular"),
        "--table": FILES,
        "--architecture": TEXTS,
        "--devices": TEXTS,
        "--combine": TEXTS,
        "--minimize": TEXTS,
        "--maximize": TEXTS,
        "--constraint": TEXTS,
        "--sampler": TEXTS,
        "--population-size": NUMBERS,
        "--evaluations": NUMBERS,
        "--storage": FILES,
        "--study-name": TEXTS,
    },
    "msranas_cifar": SHARED
    | {
        "--preset": TEXTS,
        "--resolution": ("1", "-1", "x"),
        "--scales": NUMBERS,
        "--exits": NUMBERS,
        "--cutout": NUMBERS,
        "--cost-weight": NUMBERS,
        "--cost": TEXTS,
        "--cost-target": NUMBERS,
        "--layers": NUMBERS,
        "--nodes": NUMBERS,
        "--channels": NUMBERS,
        "--final-channels": NUMBERS,
        "--order": NUMBERS,
        "--relaxation": TEXTS,
        "--drop-path": NUMBERS,
        "--random": NUMBERS,
        "--seeds": NUMBERS,
        "--max-train": NUMBERS,
    },
    "carbon_footprint": {
        "--methods": FILES,
        "--output": ("nowhere/x.html", "/nowhere/x.html"),
        "--pue": NUMBERS,
        "--intensity": NUMBERS,
        "--json": ("nowhere/x.json",),
        "--unknown": TEXTS,
    },
}
BILLS = {
    "netadapt_imagenet": "netadapt_bill",
    "evolve_cifar": "announce",
    "nsga2_pareto": "announce",
    "msranas_cifar": "ms_ranas_bill",
}


EXAMPLES = {"msranas_cifar": 30, "netadapt_imagenet": 80}
"""Fewer where settings are checked against images."""


class AcceptedError(Exception):
    """The settings were taken: the calibration, which takes seconds, would be next."""


def reach(*_, **__):
    raise AcceptedError


def option(options):
    """One option with one of its values."""
    flags = st.sampled_from(sorted(options))
    return flags.flatmap(
        lambda flag: st.sampled_from(options[flag]).map(lambda text: [flag] if text is None else [flag, text])
    )


def run(call):
    """Run a program; refuse with its own words, or return that it took the settings."""
    output, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            status = call()
    except AcceptedError:
        return "accepted"
    text = errors.getvalue()
    assert "Traceback" not in text
    if status == 0:
        return "accepted"
    assert status == 2 and text.strip(), (status, text)
    raise SystemExit(text)


class RefusedError(ValueError):
    """What a program printed before it ended with status 2."""


@pytest.mark.parametrize("name", OPTIONS)
def test_programs(name, monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if name in BILLS:
        monkeypatch.setattr(module, BILLS[name], reach)
    dry = ["--dry-run"] if name in BILLS else ["--output", str(tmp_path / "page.html")]
    monkeypatch.chdir(tmp_path)

    def parse(case):
        arguments = [*dry, *(part for option in case for part in option)]
        try:
            return run(lambda: exit_status(module.main, arguments))
        except SystemExit as refusal:
            raise RefusedError(_sentence(str(refusal))) from None

    cases = st.lists(option(OPTIONS[name]), min_size=1, max_size=3)
    check(f"command line of {name}", cases, parse, examples=EXAMPLES.get(name, 120), refusals=(RefusedError,))
    assert {path.name for path in tmp_path.iterdir()} <= {"page.html"}, "a refused command line wrote something"


LUT = {
    "build": {
        "--space": (*TEXTS, "cell"),
        "--output": ("/dev/null/x", "t.jsonl"),
        "--device": TEXTS,
        "--classes": NUMBERS,
        "--channels": NUMBERS,
        "--resolution": NUMBERS,
        "--batch-size": NUMBERS,
        "--threads": NUMBERS,
        "--rounds": NUMBERS,
        "--chains": NUMBERS,
        "--check": NUMBERS,
        "--seed": NUMBERS,
    },
    "import": {"--table": TEXTS, "--output": ("", "/dev/null/x"), "--unknown": TEXTS},
}


@pytest.mark.parametrize("command", LUT)
def test_nasray_lut(command, monkeypatch, tmp_path):
    from nasray.hardware import table_builder

    monkeypatch.setattr(table_builder, "build_latency_table", reach)
    monkeypatch.chdir(tmp_path)

    def parse(case):
        given = [part for option in case for part in option]
        required = ["--space", "mobile-8", "--output", "t.jsonl"] if command == "build" else ["nowhere.parquet"]
        try:
            return run(lambda: cli.main(["lut", command, *required, *given]))
        except SystemExit as refusal:
            raise RefusedError(_sentence(str(refusal))) from None

    cases = st.lists(option(LUT[command]), min_size=1, max_size=3)
    check(f"command line of nasray lut {command}", cases, parse, examples=120, refusals=(RefusedError,))


def _sentence(text):
    """Return what a program printed, without the box that typer draws around its own complaints."""
    found = " ".join("".join(" " if character in "│╭╮╰╯─" else character for character in text).split())
    is_usage = found.startswith("Usage:")
    return f"The command line must fit: {found[-300:].rstrip('.')}." if is_usage else found
