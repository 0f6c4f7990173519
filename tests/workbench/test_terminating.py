"""SIGTERM and SIGHUP stop work as Ctrl-C does, where nobody else has decided what they mean."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from workbench.runs import Run, read_run
from workbench.terminating import Terminated, left_as_it_was, terminable


@pytest.fixture(autouse=True)
def usual():
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    yield
    for number, handler in zip(numbers, before):
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_run_that_is_asked_to_stop_gives_its_folder_back(tmp_path, number, code):
    with pytest.raises(Terminated) as caught, terminable(), Run.open(tmp_path, "find", "llama", {}) as run:
        os.kill(os.getpid(), number)
        raise AssertionError("it has not stopped")
    record = read_run(run.path)
    assert caught.value.exit_code == code and record["state"] == "interrupted" and number.name in record["error"]
    assert not (run.path / "lock").exists() and signal.getsignal(number) is signal.SIG_DFL


def test_what_nohup_ignores_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with terminable():
        os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_other_threads_may_ask_too():
    entered = []

    def work():
        with terminable(), left_as_it_was():
            entered.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [signal.SIG_DFL]


def test_a_library_that_takes_the_signals_gives_them_back():
    with terminable():
        ours = signal.getsignal(signal.SIGTERM)
        with pytest.raises(ValueError), left_as_it_was():
            signal.signal(signal.SIGTERM, lambda *_: pytest.fail("theirs"))
            raise ValueError
        assert signal.getsignal(signal.SIGTERM) is ours
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
