"""What every command-line tool does the same way: exit codes, and errors that a person can read."""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mammo_d2.data.reading.size_limits import MAX_MEGAPIXELS, VARIABLE

# Set to anything but 0 to see the traceback of every error; --traceback does the same for one run.
TRACEBACK_VARIABLE = "MAMMO_D2_TRACEBACK"
TRACEBACK_FLAG = "--traceback"

EXIT_OK = 0
# A check found something, e.g. an invalid data set.
EXIT_FAILED = 1
# Bad input or arguments.
EXIT_ERROR = 2

# Errors that bad input leads to; their message is for the user. Others are mistakes of this program.
KNOWN_ERRORS = (ValueError, OSError, KeyError, ModuleNotFoundError)

# Packages that only some commands need, and the extra of this package that installs them.
EXTRAS = {"optuna": "search", "openpyxl": "excel"}

HELP_EPILOG = (
    f"Errors are printed as one line with exit code {EXIT_ERROR}; {TRACEBACK_FLAG} (or {TRACEBACK_VARIABLE}=1) adds "
    "the traceback."
)


def run_tool(main: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a tool's ``main`` and exit with its code.

    Bad input ends with ``error: ...`` on stderr and exit code 2. A mistake of this program ends with the traceback,
    the line ``error: unexpected ...`` and exit code 70. ``--traceback`` is taken out of the arguments here, so that
    every tool has it.

    Args:
        main: takes the arguments, returns the exit code (None: 0).
        argv: arguments without the program's name; ``sys.argv[1:]`` by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    show = TRACEBACK_FLAG in arguments or os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0")
    arguments = [a for a in arguments if a != TRACEBACK_FLAG]
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal or pipe in ASCII shows \u escapes in the place of letters that it does not have; stderr does so.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(_run(main, arguments, show))


def add_size_limit(parser: argparse._ActionsContainer) -> None:
    """The argument --max-megapixels, for ``allow_megapixels``."""
    parser.add_argument(
        "--max-megapixels", type=float, metavar="M",
        help=f"refuse larger files before decoding, in millions of pixels (default: ${VARIABLE}, else "
        f"{MAX_MEGAPIXELS:g})",
    )  # fmt: skip


def make_parser(description: str | None, command: str = "") -> argparse.ArgumentParser:
    """An argument parser with defaults in the help, line breaks of the description kept, and the common epilog.

    The parsers of its sub-commands have them, too.

    Args:
        description: shown by --help.
        command: of ``mammo-d2``; empty: another program.
    """
    return _Parser(prog=f"mammo-d2 {command}" if command else None, description=description)


def with_common_help(parser: argparse.ArgumentParser, description: str | None, command: str) -> argparse.ArgumentParser:
    """A parser that another library made, with the help that ``make_parser`` gives."""
    parser.description, parser.epilog, parser.formatter_class = description, HELP_EPILOG, HelpFormatter
    parser.prog = f"mammo-d2 {command}"
    return parser


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the description's line breaks and adds the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # 0 and 0.0 are defaults worth showing, False is not.
        says_nothing = (
            action.default is None or action.default is False or action.default in ("", [], argparse.SUPPRESS)
        )
        if says_nothing or not action.help or "%(default)" in action.help:
            return action.help
        return f"{action.help} (default: %(default)s)"


class _Parser(argparse.ArgumentParser):
    """What ``make_parser`` makes; argparse makes those of sub-commands of the same class."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"epilog": HELP_EPILOG, "formatter_class": HelpFormatter, **options})


def _run(main: Callable[[list[str]], int | None], arguments: list[str], show_traceback: bool) -> int:
    try:
        return main(arguments) or EXIT_OK
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; nothing to tell it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KNOWN_ERRORS as error:
        if show_traceback:
            traceback.print_exc()
        print(f"error: {_message(error)}", file=sys.stderr)
        return EXIT_ERROR
    except Exception as error:
        traceback.print_exc()
        print(f"error: unexpected {type(error).__name__}: {error} (a mistake of this program)", file=sys.stderr)
        return 70


def _message(error: BaseException) -> str:
    if isinstance(error, KeyError) and len(error.args) == 1:
        # str() of a KeyError is the repr of its message; a bare key needs the type's name to make sense.
        text = str(error.args[0])
        return text if " " in text else f"KeyError: {text!r}"
    if isinstance(error, ModuleNotFoundError) and error.name in EXTRAS:
        return f"this needs {error.name}, which is not installed: pip install 'mammo_d2[{EXTRAS[error.name]}]'"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
