"""Work ahead and behind: in order, bounded, and with its errors raised where they belong."""

import threading
import time

import pytest

from cti.predict.ahead import Behind


def test_what_is_done_behind_is_done_in_order() -> None:
    done: list[int] = []

    def slow() -> None:
        time.sleep(0.05)
        done.append(0)

    with Behind() as behind:
        behind.do(slow)
        for number in (1, 2):
            behind.do(lambda number=number: done.append(number))
    assert done == [0, 1, 2]


def test_the_caller_waits_when_too_much_is_waiting() -> None:
    gate, most = threading.Event(), []
    with Behind(depth=2) as behind:
        behind.do(gate.wait)
        behind.do(lambda: most.append(1))
        timer = threading.Timer(0.05, gate.set)
        timer.start()
        assert not most
        behind.do(lambda: None)  # the third: waits for the first
        assert gate.is_set()
        timer.join()


def test_errors_come_out_at_the_latest_at_the_end() -> None:
    def fail() -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"), Behind() as behind:
        behind.do(fail)
