"""How a program ends: one clear sentence and exit status 2 for wrong input, 1 if the run fails, 130 if interrupted.

A full disk is 1, as nothing in the command is wrong: given again with --resume, it goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from nasray.records import DiskError
from nasray.redaction import hide_passwords
from nasray.tune.resume_command import note_start


class TrialError(RuntimeError):
    """A trial ended without a result; the message is the trial's own last word."""


def exit_status(main: Callable[..., Any], arguments: Sequence[str] | None = None) -> int:
    """Run a typer program and return its exit status.

    Errors that a user can make (`ValueError` and its kin, missing files, no cluster) become one sentence on standard
    error; anything else is a bug and keeps its traceback.

    Args:
        main: The program.
        arguments: Command line without the program's name; by default this process's.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    note_start(main, arguments)
    try:
        status = app(arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        print("Interrupted.", file=sys.stderr)
        return 130
    except OverflowError as error:
        print(f"Error: A number is too large to compute with ({error}). Give a smaller one.", file=sys.stderr)
        return 2
    except DiskError as error:
        print(f"Error: {hide_passwords(str(error))}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"Error: {hide_passwords(_sentence(error))}", file=sys.stderr)
        return 2
    except TrialError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        # typer's own complaints about the command line know how to show themselves.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            return int(error.exit_code)
        raise
    return int(status or 0)


def _sentence(error: Exception) -> str:
    """Return what an error says; of the operating system's own, with the path first and what to do."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename} cannot be read or written ({error.strerror}). Check the path and its permissions."
    return str(error)
