"""What a run looks like in a terminal, in a pipe, and after Ctrl-C."""

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from rich.console import Console

from nasray.carbon.budget import Spending
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.tune.live.state import LiveRun
from nasray.tune.live.view import LiveView, StageState, packed
from nasray.tune.progress import StageProgress

ROOT = Path(__file__).parents[2]
GOALS = Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="macs")])
HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"


def console(width=80, *, is_terminal=False):
    return Console(file=io.StringIO(), width=width, force_terminal=is_terminal, color_system=None)


def busy_run():
    live = LiveRun()
    live.aim(GOALS)
    for number in range(1234):
        metrics = {"accuracy": 0.5 + number / 5000, "macs": 1e6 + number}
        live.add(str(number), Evaluation(metrics=metrics))
    live.add("failed", Evaluation(status="failed", reason="diverged"))
    live.hypervolume = 1.2345e7
    live.workers, live.queue = (7, 8), 3
    live.spending = Spending(hours=0.5, energy_j=3.6e6, carbon_g=475.0)
    live.budget_left = {"hours": 0.75, "kwh": 0.5, "co2_kg": 0.525}
    return live


def stage(**changes):
    now_s = [0.0]
    made = StageState(**{"name": "search", "total": 100.0, "clock": lambda: now_s[0], **changes})
    now_s[0] = 60.0
    return made


def drawn(live, stages, width):
    shown = console(width)
    shown.print(LiveView(live, stages))
    return shown.file.getvalue().splitlines()


def test_the_view_tells_every_figure() -> None:
    lines = drawn(busy_run(), [stage(done=25.0, rate="2 candidates/s")], 200)
    assert re.fullmatch(r"search +━+╸? +25% 1:00, 3:00 left", lines[0].rstrip())
    assert len(lines) == 3
    assert lines[1].startswith("2 candidates/s · 1,235 evaluations")
    text = " · ".join(line.strip() for line in lines[1:])
    for figure in ("1,235 evaluations (1 failed)", "front 1234", "hypervolume 1.23", "best accuracy 74.7%", "1 kWh"):
        assert figure in text
    for figure in ("7 of 8 workers busy", "3 waiting", "0.475 kg CO2e", "75% of hours left", "50% of kWh left"):
        assert figure in text


@pytest.mark.parametrize("width", [30, 40, 60, 80, 132])
def test_no_line_is_wider_than_the_terminal(width) -> None:
    stages = [stage(name="a stage with a rather long name", done=25.0), stage(done=99.0, rate="2 candidates/s")]
    lines = drawn(busy_run(), stages, width)
    assert max(map(len, lines)) <= width
    assert re.search(r"99% 1:00", lines[1])
    assert width < 40 or "0:01 left" in lines[1]
    if width >= 60:
        assert len(lines) <= 7


def test_unknown_energy_is_not_zero() -> None:
    live = LiveRun()
    live.spending = Spending(hours=0.1, energy_j=None, carbon_g=None)
    text = " ".join(drawn(live, [stage()], 80))
    assert "energy unknown" in text
    assert "kWh" not in text
    assert "CO2e" not in text


def test_time_left_goes_by_what_was_done_here() -> None:
    assert stage().left_s is None
    assert stage(first=50.0).left_s is None
    resumed = stage(first=50.0)
    resumed.done = 75.0
    assert resumed.left_s == pytest.approx(60.0)


def test_lines_are_filled_and_a_long_item_has_its_own() -> None:
    assert packed(["aa", "bb", "c" * 12, "d"], 8) == ["aa · bb", "c" * 12, "d"]


def show(progress):
    with progress.shown():
        bar = progress.bar("search", 100)
        for done in range(1, 101):
            bar.move(done, f"{done}/s", "2 on the front")


def test_a_pipe_gets_a_line_for_each_fifth() -> None:
    out = console()
    show(StageProgress(out))
    expected = [f"search: {done}% {done}/s, 2 on the front" for done in (20, 40, 60, 80, 100)]
    assert out.file.getvalue().splitlines() == expected


@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_progress_shows_none(is_terminal) -> None:
    out = console(is_terminal=is_terminal)
    progress = StageProgress(out, is_quiet=True)
    show(progress)
    progress.say("never said")
    assert out.file.getvalue() == ""


def test_one_line_of_each_stage_stays_in_a_terminal() -> None:
    out = console(60, is_terminal=True)
    show(StageProgress(out))
    last = out.file.getvalue().rstrip().splitlines()[-1]
    assert re.search(r"search +━+ +100% 0:00\s*$", last)


PROGRAM = """
import sys, time
from rich.console import Console
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.tune.progress import StageProgress

progress = StageProgress(Console())
progress.follow("run", None)
progress.aim(Pareto([Objective(name="accuracy", direction="maximize"), Objective(name="macs")]))
print("before", flush=True)
try:
    with progress.shown():
        bar = progress.bar("search", 1000)
        for number in range(1000):
            metrics = {"accuracy": number / 2000, "macs": 1e6 + number}
            progress.evaluated(str(number), Evaluation(metrics=metrics))
            bar.move(number + 1, "20 candidates/s")
            time.sleep(0.05)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def terminal():
    """A terminal of 60 columns, in which a program shows its progress until Ctrl-C; gives all bytes that it got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    before = termios.tcgetattr(theirs)
    sized = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment = sized | {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        got, sent = b"", False
        while b"interrupted" not in got:
            assert process.poll() is None, got.decode()
            got += os.read(ours, 65536)
            if not sent and b"evaluations" in got:
                time.sleep(1.0)
                process.send_signal(signal.SIGINT)
                sent = True
        process.wait(30)
    assert termios.tcgetattr(theirs) == before
    os.close(theirs)
    os.close(ours)
    return got


@pytest.mark.slow
def test_ctrl_c_leaves_the_terminal_clean(terminal) -> None:
    assert terminal.count(HIDE_CURSOR) == terminal.count(SHOW_CURSOR) == 1
    assert terminal.index(HIDE_CURSOR) < terminal.index(SHOW_CURSOR)
    after = terminal[terminal.index(SHOW_CURSOR) :].decode()
    assert "front" not in after  # the live figures are gone, the stage's line stays
    assert re.search(r"search +.*━.* +\d+% .*\n.*interrupted", after, re.DOTALL)


@pytest.mark.slow
def test_the_screen_of_60_columns_is_whole(terminal) -> None:
    pyte = pytest.importorskip("pyte", reason="needs pyte, a terminal in memory")
    screen = pyte.Screen(60, 24)
    stream = pyte.ByteStream(screen)
    drawn_last = terminal.index(b"%", terminal.rindex(b"best accuracy")) + 1
    stream.feed(terminal[:drawn_last])
    lines = [line.rstrip() for line in screen.display if line.strip()]
    assert lines[0] == "before"
    assert re.fullmatch(r"search +[━╸╺]+ +\d+% \d:\d\d, \d:\d\d left", lines[-3])
    assert re.fullmatch(r"20 candidates/s · \d+ evaluations · front \d+( · hypervolume \S+)?", lines[-2])
    assert re.fullmatch(r"(hypervolume \S+ · )?best accuracy \d+\.\d%", lines[-1])
    stream.feed(terminal[drawn_last:])
    lines = [line.rstrip() for line in screen.display if line.strip()]
    assert [lines[0], lines[-1]] == ["before", "interrupted"]
    assert not [line for line in lines if "front" in line]
    assert len([line for line in lines if line.startswith("search")]) == 1
