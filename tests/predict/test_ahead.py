"""Work ahead and behind: in order, bounded, and with its errors raised where they belong."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from cti.predict.ahead import Behind, ahead


def test_results_come_in_order_and_only_a_few_items_are_taken_at_a_time() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            taken.append(number)
            yield number

    found = ahead(lambda number: number * number, items(), depth=3)
    for number in range(5):
        item, future = next(found)
        assert (item, future.result()) == (number, number * number)
        assert len(taken) == number + 3  # this one and the two after it
    found.close()  # type: ignore[attr-defined]
    assert [(item, future.result()) for item, future in ahead(str, [7, 8], depth=4)] == [(7, "7"), (8, "8")]


def test_as_many_work_at_a_time_as_there_are_threads() -> None:
    together = threading.Barrier(3, timeout=20)  # breaks unless three wait at once
    waited = [future.result() for _, future in ahead(lambda _: together.wait(), range(6), threads=3, depth=6)]
    assert sorted(waited) == [0, 0, 1, 1, 2, 2]


def test_what_work_raises_belongs_to_its_item() -> None:
    first, second = ahead(lambda number: 1 / number, [0, 1])
    with pytest.raises(ZeroDivisionError):
        first[1].result()
    assert second[1].result() == 1


def test_a_caller_that_stops_leaves_nothing_to_be_done() -> None:
    gate, done = threading.Event(), []

    def work(number: int) -> None:
        gate.wait(20)
        done.append(number)

    found = ahead(work, range(9), threads=1, depth=5)
    next(found)
    timer = threading.Timer(0.05, gate.set)
    timer.start()
    found.close()  # type: ignore[attr-defined]
    timer.join()
    assert done == [0]


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
