from rich.console import Console

from nasray.architecture import Architecture
from nasray.archive import ParetoArchive
from nasray.evaluation import Evaluation
from nasray.formulations import Pareto
from nasray.objectives import Objective
from nasray.records import RunDirectory
from nasray.report import write_report
from nasray.report.trade_offs import trade_off_rows, trade_off_table

OBJECTIVES = [
    Objective(name="accuracy", direction="maximize", ideal=1.0),
    Objective(name="parameters"),
    Objective(name="inference_time_s", unit="s"),
]
FOUND = [(0.99, 1e6, 0.5), (0.98, 2e5, 0.1), (0.97, 1e5, 0.4), (0.3, 1e2, 0.3), (0.2, 5e2, 0.01)]


def archive() -> ParetoArchive:
    kept = ParetoArchive(Pareto(OBJECTIVES))
    for number, row in enumerate(FOUND):
        metrics = dict(zip(("accuracy", "parameters", "inference_time_s"), row, strict=True)) | {"macs": 7.0}
        kept.add(str(number), Architecture.of("s", {"n": number}), Evaluation(metrics=metrics))
    return kept


def test_extremes_and_trade_offs_are_chosen() -> None:
    rows = trade_off_rows(archive(), also=("macs",))
    assert {row["network"]: row["trial_id"] for row in rows} == {
        "best accuracy": "0",
        "least parameters": "3",
        "least inference time": "4",
        "trade-off, parameters": "1",
        "trade-off, inference time": "1",
        "best trade-off": "1",
    }
    assert rows[-1]["saves"] == {"parameters": 5.0, "inference_time_s": 5.0}
    assert rows[0]["metrics"]["macs"] == 7.0


def test_the_table_says_what_is_saved() -> None:
    console = Console(width=200, record=True)
    console.print(trade_off_table(trade_off_rows(archive())))
    text = console.export_text()
    assert "200.0 K" in text
    assert "5x less" in text
    assert "99.00 %" in text


def test_the_report_of_a_run_with_trade_offs_shows_them(tmp_path) -> None:
    run = RunDirectory.create(
        tmp_path / "run", method="evolution", preset="menndl", configuration={}, seed=0, data={}, resume=False
    )
    run.append_evaluations(
        [
            {
                "sample_id": str(number),
                "trial_id": str(number),
                "arch_id": str(number),
                "status": "ok",
                "metrics": {"accuracy": row[0], "parameters": row[1], "test_accuracy": row[0]},
            }
            for number, row in enumerate(FOUND)
        ]
    )
    run.update(status="done", trade_offs=trade_off_rows(archive()))
    text = write_report(run).read_text()
    assert "best trade-off" in text
    assert "5x less" in text
    assert "Candidate by candidate" in text
    assert "The front of Accuracy against Parameters" in text
    assert "The front of Accuracy against Test accuracy" not in text
    assert "No iteration" not in text
