"""How a program ends: one clear sentence and exit status 2 for wrong input, 130 when interrupted."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import typer


def exit_status(main: Callable[..., Any]) -> int:
    """Run a typer program and return its exit status.

    Errors that a user can make (`ValueError` and its kin, missing files, no cluster) become one sentence on standard
    error; anything else is a bug and keeps its traceback.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    try:
        status = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        print("Interrupted.", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        # typer's own complaints about the command line know how to show themselves.
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            return int(error.exit_code)
        raise
    return int(status or 0)
