"""A machine with nothing to read, no network, and no place to write."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nasray.carbon.cross_check import _options

REPOSITORY = Path(__file__).parents[2]

SCRIPT = """
import json, os, sys, time
seen = []
def watch(event, args):
    if event in ("socket.__new__", "socket.connect", "socket.bind", "socket.getaddrinfo"):
        seen.append(event)
    # A file that is gone at the end is tempfile's, which looks for a folder that it may write to.
    if event == "open" and isinstance(args[0], str) and args[2] & os.O_CREAT:
        seen.append(args[0])
sys.addaudithook(watch)
from nasray.carbon.cross_check import CrossCheck
from nasray.carbon.lease import Lease
from nasray.carbon.node_meter import NodeMeter
now = [0.0]
check = CrossCheck.start(clock=lambda: now[0])
meter = NodeMeter.of_this_machine(node="n")
meter.calibrate(num_windows=1, window_s=0.05)
lease = Lease.of_this_process(owner="t", stage="s", cpus=1.0, gpus={"GPU-none": 1.0})
key = meter.open(lease)
answers = [check.compare(meter.snapshot())]
time.sleep(0.3)
meter.tick()
now[0] = 100.0
answers.append(check.compare(meter.snapshot()))
check.stop()
result = {"energy": meter.close(key).to_json(), "snapshot": meter.snapshot(), "answers": answers}
result["seen"] = [name for name in seen if name.startswith("socket") or os.path.exists(name)]
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bare")
    for name in (".codecarbon.config", "home/.codecarbon.config"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(
            "[codecarbon]\noutput_methods=csv,api\npue=7\nemissions_endpoint=http://localhost:1\n"
        )
    before = sorted(path.name for path in folder.rglob("*"))
    for path in (folder / "home", folder):
        path.chmod(0o555)
    environment = {key: value for key, value in os.environ.items() if "CODECARBON" not in key}
    environment |= {
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(folder / "home"),
        "CODECARBON_PUE": "9",
        "CODECARBON_SAVE_TO_FILE": "true",
        "CODECARBON_FORCE_RAM_POWER": "1000",
        "CODECARBON_LOG_LEVEL": "debug",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    after = sorted(path.name for path in folder.rglob("*"))
    for path in (folder, folder / "home"):
        path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr, before, after


def test_no_message_no_socket_and_no_file(bare):
    answer, messages, before, after = bare
    assert messages == ""
    assert answer["seen"] == []
    assert before == after


@pytest.mark.skipif(
    Path("/dev/nvidia0").exists() or Path("/sys/class/powercap/intel-rapl:0").exists(), reason="counters"
)
def test_nothing_is_labelled_measured(bare):
    answer, _, _, _ = bare
    qualities = {name: domain["quality"] for name, domain in answer["energy"]["domains"].items()}
    assert qualities == {"cpu": "estimated", "ram": "estimated", "gpu:GPU-none": "unavailable"}
    assert answer["energy"]["energy_j"] is None
    assert answer["energy"]["domains"]["ram"]["energy_j"] > 0


def test_codecarbon_agrees_on_memory_whatever_its_settings_say(bare):
    answer, _, _, _ = bare
    first, second = answer["answers"]
    assert (first["reason"], second["reason"]) == ("the comparison has just begun", None)
    ram = second["domains"]["ram"]
    assert ram["codecarbon_kwh"] > 0
    assert ram["relative_difference"] == pytest.approx(0.0, abs=0.2)
    assert second["domains"]["gpu"]["relative_difference"] is None


def test_every_option_of_the_tracker_is_passed():
    from codecarbon import OfflineEmissionsTracker, emissions_tracker

    names = set()
    for owner in (emissions_tracker.BaseEmissionsTracker, OfflineEmissionsTracker):
        names |= inspect.signature(owner.__init__).parameters.keys()
    deprecated = {name for name in names if name.startswith("save_to_")} | {"co2_signal_api_token"}
    assert names - deprecated - {"self", "args", "kwargs"} == _options(None).keys()
