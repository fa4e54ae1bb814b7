"""The command `nasray`. Heavy parts are imported by the command that needs them, so that `--help` is quick."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from nasray.commands.lut import lut

app = typer.Typer(pretty_exceptions_enable=False, help="Hardware-aware architecture search.")
app.add_typer(lut, name="lut")

Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


@app.callback(invoke_without_command=True)
def _nasray(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def resume(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Folder of the run, here or on a storage (URI).", show_default=False),
    ],
) -> None:
    """Go on with a run that was interrupted or killed, with the options that it was started with.

    Options after RUN replace those: nasray resume RUN --workers 4. The folder of a run on a storage, as
    s3://bucket/runs/NAME, is brought back first, to runs/NAME or the folder that --run-dir names.
    """
    from nasray.tune.resume_command import resume as go_on

    raise typer.Exit(go_on(run, context.args))


@app.command()
def dashboard(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run.", show_default=False)],
    storage: Annotated[str | None, typer.Option(help="Where the study is, if not in the run's folder.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; there is no password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
) -> None:
    """Show the Optuna study of a run in a browser, also while the run goes on."""
    from nasray.tune.study_dashboard import show_study

    show_study(run, storage=storage, host=host, port=port)


@app.command()
def doctor(
    place: Annotated[str, typer.Option(help="Country or region of the electricity, such as FRA.")] = "world",
    as_json: AsJson = False,
) -> None:
    """Tell what this machine offers: devices, energy counters, disk, packages; what is missing and how to get it."""
    from nasray.commands.doctor import findings
    from nasray.commands.output import print_json, print_table

    found = findings(place)
    if as_json:
        print_json(found)
        return
    rows = [{**row, "": "ok" if row["is_fine"] else "!", "remedy": row["remedy"] or ""} for row in found]
    print_table(rows, columns=("", "what", "found", "remedy"))


@app.command()
def report(run: Run) -> None:
    """Write the report of a run anew, of what it has recorded so far."""
    from nasray.commands.runs import report as write

    print(write(run))


@app.command()
def front(run: Run, as_json: AsJson = False) -> None:
    """List the networks of a run that no other is better than."""
    from nasray.commands.output import print_json, print_table
    from nasray.commands.runs import front_rows, marked

    rows = front_rows(run)
    if as_json:
        print_json(rows)
    else:
        title = f"{len(rows)} network{'s' * (len(rows) != 1)} on the fronts of {run} (*: of this cost)"
        print_table(marked(rows), title=title)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Put several runs into one front: what share of it is whose, and what each dominates."""
    from nasray.commands.output import print_json, print_table
    from nasray.commands.runs import compare as put_together

    found = put_together(runs)
    if as_json:
        print_json({"runs": found.rows, "warnings": found.warnings})
        return
    print_table(found.rows)
    for warning in found.warnings:
        print(f"Warning: {warning}", file=sys.stderr)


@app.command()
def export(
    run: Run,
    arch: Annotated[str, typer.Argument(metavar="ARCH", help="Its id, or the beginning of it.", show_default=False)],
    output: Annotated[Path, typer.Option(help="New folder for the files.", file_okay=False)],
    data: Annotated[Path | None, typer.Option(help="Images of the run, if it was given any.")] = None,
) -> None:
    """Write a network of a run as files to ship; one that the run did not export is trained once more."""
    from nasray.commands.export import export as write

    print(write(run, arch, output, data=data))


@app.command()
def measure(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Exported folder, .pt2 file, or module:name.")],
    input_shape: Annotated[
        str | None, typer.Option("--input", help="Shape of the input, as 1,3,32,32; an export knows its own.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu (one thread), cuda or cuda:<index>.")] = "cpu",
    energy: Annotated[bool, typer.Option("--energy", help="Measure energy too, where there is a counter.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure what a network costs on this machine: multiply-adds, parameters, memory, latency, energy."""
    from nasray.commands.measure import measure as costs_of
    from nasray.commands.output import print_json, print_table, shown

    shape = _shape(input_shape)
    rows = costs_of(model, input_shape=shape, device=device, measures_energy=energy)
    if as_json:
        print_json(rows)
    else:
        print_table([{**row, "value": shown(row["cost"], row["value"])} for row in rows])


@app.command()
def carbon(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="Folder of a run; none tells the place alone.")
    ] = None,
    place: Annotated[str | None, typer.Option(help="Count the run's energy at another place, such as FRA.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell the energy and CO2 of a run, by stage; or the CO2 of a place's electricity."""
    from nasray.commands.carbon import carbon_rows
    from nasray.commands.output import print_json, print_table

    rows = carbon_rows(run, place)
    if as_json:
        print_json(rows)
    else:
        print_table(rows)


def _shape(text: str | None) -> list[int] | None:
    if text is None:
        return None
    sizes = text.split(",")
    if not all(size.strip().isdigit() and int(size) for size in sizes):
        raise ValueError(f"`--input` must be positive whole numbers joined by commas, such as 1,3,32,32; got {text!r}.")
    return [int(size) for size in sizes]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 2 for wrong input, 130 if it was interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)

    def run() -> int:
        return int(app(given, prog_name="nasray", standalone_mode=False) or 0)

    if not given or "--help" in given:
        try:
            return run()
        except Exception as error:
            if not hasattr(error, "show"):  # what typer raises for a command or an option that there is not
                raise
            error.show()
            return 2
    from nasray.tune.cli_errors import exit_status

    return exit_status(run, [])


if __name__ == "__main__":
    sys.exit(main())
