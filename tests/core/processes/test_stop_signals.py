"""The first signal is noted, the second one ends."""

import os
import signal
import threading

import pytest

from mammo_d2.core.processes.stop_signals import StopSignals


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_the_second_signal_stops_and_the_former_handlers_return(number, error):
    former = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGCHLD)]
    told: list[str] = []
    with StopSignals(told.append) as signals:
        assert signals.number == 0
        os.kill(os.getpid(), number)
        assert signals.number == number
        with pytest.raises(error) as stop:
            os.kill(os.getpid(), number)
    assert told == [f"{signal.Signals(number).name}: stopping after this iteration; a second one stops at once"]
    if error is SystemExit:
        assert stop.value.code == 143
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)] == former


def test_another_thread_leaves_signals_alone():
    former = signal.getsignal(signal.SIGINT)
    seen = []

    def use():
        with StopSignals(print) as signals:
            seen.extend([signals.number, signal.getsignal(signal.SIGINT)])

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [0, former]
