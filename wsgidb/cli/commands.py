"""The command line: ``python -m wsgidb`` with the commands check, status, drain, advise and options.

Exit codes: 0 for success; 1 where the database cannot be reached or answers with an error, or the board has nothing to
tell; 2 for a mistake in the command or in an option.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from ..errors import ConfigError, DatabaseUnavailable
from . import advise, check, drain, options, status
from .boards import NothingToTell

INTERRUPTED = 130
"""The exit code of a command that was ended by Ctrl-C, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code; prints no traceback."""
    parser = argparse.ArgumentParser(prog="python -m wsgidb", description="Look at a database as wsgidb does.")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (check, status, drain, advise, options):
        command.add_to(commands)
    given = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path in the statistics may have any character
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code: int = given.run(given)
        sys.stdout.flush()
        return code
    except ConfigError as error:
        print(f"wsgidb: {error}", file=sys.stderr)
        return 2
    except (DatabaseUnavailable, NothingToTell) as error:
        print(f"wsgidb: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        return 1
    except Exception as error:  # noqa: BLE001 - a driver's, or the operating system's, of any kind
        print(f"wsgidb: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
