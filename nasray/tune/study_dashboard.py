"""Optuna's dashboard on the study of a run."""

from __future__ import annotations

import importlib.util
import ipaddress
import socket
from pathlib import Path

from nasray.records import RunDirectory
from nasray.redaction import hide_passwords

STUDY_FILE = "optuna.log"
"""Journal of a study in its run's directory, unless the run was told to keep it elsewhere."""


def show_study(run_dir: Path, *, storage: str | None = None, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve optuna-dashboard on the study of a run, until it is interrupted.

    A run that goes on may be looked at: the study is only read, unless somebody changes it in the browser.

    Args:
        run_dir: The run directory.
        storage: Where the study is, if the run keeps it elsewhere: it is not taken from the run's record, which may
            come from anybody.
        host: Address to listen on. The dashboard asks for no password.
        port: Port to listen on.

    Raises:
        ValueError: If optuna-dashboard is not installed, there is no run or no study, or the address cannot be had.
    """
    where = storage or study_of(RunDirectory.open(run_dir))
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise ValueError("This command needs optuna-dashboard. Install it: pip install 'nasray[dashboard]'")
    check_address(host, port)
    from optuna_dashboard import run_server

    print(f"Study of {run_dir}: {hide_passwords(where)}")
    if not _is_of_this_machine(host):
        print(f"Whoever reaches {host}:{port} can read, change and delete the study: there is no password.")
    print(f"Open http://{host}:{port} in a browser; Ctrl-C ends the dashboard, not the run.", flush=True)
    run_server(where, host=host, port=port)


def study_of(run: RunDirectory) -> str:
    """Return the file of a run's study.

    Raises:
        ValueError: If it is not in the run directory.
    """
    path = run.path / STUDY_FILE
    if path.is_file():
        return str(path.resolve())
    method = str(run.run.get("method"))
    if not method.startswith("optuna-"):
        raise ValueError(
            f"`run` must have an Optuna study, got {run.path}, a run of {method}. Studies are made by nsga2_pareto.py; "
            f"what this run found is in {run.path / 'report.html'}."
        )
    raise ValueError(
        f"{path} is missing: this run keeps its study elsewhere. Name it: nasray dashboard {run.path} --storage ..."
    )


def check_address(host: str, port: int) -> None:
    """Check that an address can be listened on.

    Raises:
        ValueError: If it cannot.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise ValueError(
            f"`host` and `port` must be free to listen on, got {host}:{port} ({error.strerror}). Choose another --port."
        ) from None


def _is_of_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
