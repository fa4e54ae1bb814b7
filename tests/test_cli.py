import json
import subprocess
import sys

import pandas as pd
import pytest

from nasray import cli
from nasray.commands import lut
from nasray.hardware.block_table import BlockTable


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from nasray.cli import main; status = main(['--help'])\n"
        "print(status, [name for name in ('ray', 'torch', 'pandas', 'optuna') if name in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "lut" in result.stdout
    assert result.stderr.strip() == "0 []"


def test_without_a_command_the_help_is_shown(capsys):
    assert cli.main([]) == 0
    assert cli.main(["lut"]) == 0
    assert "build" in capsys.readouterr().out


def test_wrong_input_is_one_sentence_and_status_2(tmp_path, capsys):
    for arguments, sentence in (
        (["lut", "build", "--space", "nix", "--output", str(tmp_path / "t")], "`--space` must be one of"),
        (["lut", "build", "--space", "cell", "--output", str(tmp_path / "t"), "--check", "1"], "`--check` must be 0"),
        (["lut", "import", str(tmp_path / "none.csv")], "which does not exist"),
        (["lut", "nix"], "No such command"),
        (["nix", "--help"], "No such command"),
        (["front", "--nix", "--help"], "No such option"),
    ):
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert "Traceback" not in error


def test_a_table_is_imported(tmp_path, capsys):
    source, output = tmp_path / "luts.csv", tmp_path / "new" / "table.json"
    key = "Conv-input:224x224x3-output:112x112x32"
    pd.DataFrame([{"lut": "p", "device": "phone", "key": key, "mean_ms": 4.0}]).to_csv(source)
    assert cli.main(["lut", "import", str(source)]) == 0
    assert "holds the tables p" in capsys.readouterr().out
    assert cli.main(["lut", "import", str(source), "--table", "p"]) == 2
    assert "`--output` must name" in capsys.readouterr().err
    assert cli.main(["lut", "import", str(source), "--table", "p", "--output", str(output)]) == 0
    assert BlockTable.load(output).device == "phone"


@pytest.mark.slow
def test_an_interrupted_build_goes_on(tmp_path, capsys, monkeypatch):
    output = tmp_path / "table.jsonl"
    arguments = ["lut", "build", "--space", "cell", "--resolution", "4", "--rounds", "1", "--check", "2"]
    arguments += ["--output", str(output)]

    def stop(_):
        def show(done, total):
            if done == 5:
                raise KeyboardInterrupt

        return show

    with monkeypatch.context() as patch:
        patch.setattr(lut, "_progress", stop)
        assert cli.main(arguments) == 130
    assert f"kept in {output}" in capsys.readouterr().err
    assert len(output.read_text().splitlines()) == 6
    assert cli.main(arguments) == 0
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert len({json.dumps(line["layer"]) for line in lines if "layer" in line}) == 25
    captured = capsys.readouterr()
    assert "25 of 25 timings" in captured.err
    assert "checked on 2 networks of cell" in captured.out


def test_chains_that_are_timed_may_be_built():
    space = lut.make_space("chain", num_classes=3, resolution=8)
    found = lut._random_chains(space, 3, 0)
    assert len(found) == 3
    assert all(space.plan(each).is_feasible for each in found)
