"""Shared by all commands: argument parser, help, exit codes and readable errors."""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mammo_d2.data.reading.size_limits import MAX_MEGAPIXELS, VARIABLE

# If set to anything but 0, errors are shown with traceback; --traceback does the same for one run.
TRACEBACK_VARIABLE = "MAMMO_D2_TRACEBACK"
TRACEBACK_FLAG = "--traceback"

EXIT_OK = 0
# A check found something, e.g. an invalid data set.
EXIT_FAILED = 1
# Bad input or arguments.
EXIT_ERROR = 2
# Done, but for some of the input.
EXIT_PARTIAL = 3

# Errors caused by bad input; their message is for the user. All others are bugs.
KNOWN_ERRORS = (ValueError, OSError, KeyError, ModuleNotFoundError)

# Optional packages, and the extra of this package that installs them.
EXTRAS = {
    "optuna": "search",
    "openpyxl": "excel",
    "pyarrow": "fast",
    "highdicom": "dicom-export",
    "mlflow": "mlflow",
    "wandb": "wandb",
    "onnx": "export",
    "onnxscript": "export",
    "onnxruntime": "export",
    "distributed": "cluster",
}

HELP_EPILOG = (
    f"Errors are printed as one line with exit code {EXIT_ERROR}; {TRACEBACK_FLAG} (or {TRACEBACK_VARIABLE}=1) adds "
    "the traceback."
)


def run_tool(main: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a tool's ``main`` and exit with its code.

    Bad input ends with ``error: ...`` on stderr and exit code 2. A bug ends with the traceback, the line
    ``error: unexpected ...`` and exit code 70. ``--traceback`` is handled here for all commands.

    Args:
        main: takes the arguments, returns the exit code (None: 0).
        argv: arguments without the program's name; ``sys.argv[1:]`` by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    show = TRACEBACK_FLAG in arguments or os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0")
    arguments = [a for a in arguments if a != TRACEBACK_FLAG]
    if isinstance(sys.stdout, io.TextIOWrapper):
        # As on stderr, characters that an ASCII terminal or pipe cannot show become \u escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(_run(main, arguments, show))


def add_size_limit(parser: argparse._ActionsContainer) -> None:
    """Add the argument ``--max-megapixels``, for ``allow_megapixels``."""
    parser.add_argument(
        "--max-megapixels", type=float, metavar="M",
        help=f"refuse larger files before decoding, in millions of pixels (default: ${VARIABLE}, else "
        f"{MAX_MEGAPIXELS:g})",
    )  # fmt: skip


def make_parser(description: str | None, command: str = "") -> argparse.ArgumentParser:
    """An argument parser whose help shows defaults, keeps line breaks of the description and has the common epilog.

    This applies to its sub-commands, too.

    Args:
        description: shown by ``--help``.
        command: name of the ``mammo-d2`` command; empty: another program.
    """
    return _Parser(prog=f"mammo-d2 {command}" if command else None, description=description)


def with_common_help(parser: argparse.ArgumentParser, description: str | None, command: str) -> argparse.ArgumentParser:
    """Give another library's parser the help of ``make_parser``; changes and returns it."""
    parser.description, parser.epilog, parser.formatter_class = description, HELP_EPILOG, HelpFormatter
    parser.prog = f"mammo-d2 {command}"
    return parser


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the description's line breaks and adds informative defaults."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # 0 and 0.0 are informative defaults, False is not.
        uninformative = (
            action.default is None or action.default is False or action.default in ("", [], argparse.SUPPRESS)
        )
        if uninformative or not action.help or "%(default)" in action.help:
            return action.help
        return f"{action.help} (default: %(default)s)"


class _Parser(argparse.ArgumentParser):
    """The parser of ``make_parser``; argparse uses the same class for sub-commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"epilog": HELP_EPILOG, "formatter_class": HelpFormatter, **options})


def _run(main: Callable[[list[str]], int | None], arguments: list[str], show_traceback: bool) -> int:
    try:
        return main(arguments) or EXIT_OK
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has exited.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KNOWN_ERRORS as error:
        if show_traceback:
            traceback.print_exc()
        print(f"error: {_message(error)}", file=sys.stderr)
        return EXIT_ERROR
    except Exception as error:
        traceback.print_exc()
        print(f"error: unexpected {type(error).__name__}: {error} (a bug in mammo_d2)", file=sys.stderr)
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
