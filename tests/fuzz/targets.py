"""What a mistake is made in: a file that a command reads, with a valid miniature of everything around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.mistakes import Mistake


def accept(folder: Path) -> Any:
    """No result to compare."""


@dataclass(frozen=True)
class Target:
    """One file of one command.

    Attributes:
        command: e.g. "prepare rsna".
        file: that is changed, relative to the folder.
        make: writes a valid miniature into an empty folder.
        run: the command.
        arguments: of the command, for the folder.
        mistakes: in the file, for the folder with the miniature.
        result: what the command made of the files, comparable; called after every end without error.
        plausible: what is wrong with a result, given that of the valid files; None if nothing is.
        named: the file's name may be missing in an error that has one of these words.
    """

    command: str
    file: str
    make: Callable[[Path], Any]
    run: Callable[[list[str]], int | None]
    arguments: Callable[[Path], list[str]]
    mistakes: Callable[[Path], Iterable[Mistake]]
    result: Callable[[Path], Any] = accept
    plausible: Callable[[Any, Any, Mistake], str | None] = lambda new, valid, mistake: None
    named: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.command} < {self.file}"
