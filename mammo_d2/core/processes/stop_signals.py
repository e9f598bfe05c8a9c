"""Ctrl-C and SIGTERM as a request to stop at the next safe point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn


class StopSignals:
    """Context manager: the first SIGINT or SIGTERM is only noted, the second one stops at once.

    In a thread other than the main one signals cannot be caught: there it does nothing.

    Attributes:
        number: of the first signal; 0 before one has come.
    """

    def __init__(self, tell: Callable[[str], Any], unit: str = "iteration"):
        """
        Args:
            tell: called with a line for the user when the first signal comes.
            unit: after which of them the program stops, for that line.
        """
        self.number = 0
        self._tell, self._unit = tell, unit
        self._former: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: of another language

    def stop(self, number: int) -> NoReturn:
        """End as the signal asks for it.

        Raises:
            KeyboardInterrupt: SIGINT.
            SystemExit: any other, with the code that a shell gives for it.
        """
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            self.stop(number)
        self.number = number
        # A signal to the whole job ends the data loader's processes, too. Their end must not break off the step.
        self._former[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _ignore)
        self._tell(f"{signal.Signals(number).name}: stopping after this {self._unit}; a second one stops at once")


def _ignore(number: int, frame: FrameType | None) -> None:
    """Not SIG_DFL: a signal that has come already would be reported as an error."""
