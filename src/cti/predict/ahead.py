"""Work done ahead in threads: Pillow decodes and encodes without holding the interpreter's lock."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(
    work: Callable[[T], R], items: Iterable[T], threads: int = 2, depth: int = 4
) -> Iterator[tuple[T, Future[R]]]:
    """Items with the results of `work`, in order, while the next few are worked on.

    Args:
        work: What to do with an item; what it raises is raised by the future's `result()`.
        items: They may be endless.
        threads: How many work at a time.
        depth: How many items are at most under way or waiting, which bounds memory.
    """
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque((item, pool.submit(work, item)) for item in islice(rest, depth))
        try:
            while waiting:
                yield waiting.popleft()
                waiting.extend((item, pool.submit(work, item)) for item in islice(rest, 1))
        finally:
            for _, unwanted in waiting:  # of a caller that has stopped
                unwanted.cancel()


class Behind:
    """Work done behind the caller's back, in order; `with` waits for the rest.

    Args:
        depth: How many pieces of work may wait; more make the caller wait, which bounds memory.
    """

    def __init__(self, depth: int = 4) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[None]] = deque()
        self._depth = depth

    def __enter__(self) -> "Behind":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        while self._waiting:
            self._waiting.popleft().result()

    def do(self, work: Callable[[], None]) -> None:
        """Have `work` done; what an earlier one raised is raised here or at the end."""
        self._waiting.append(self._pool.submit(work))
        while len(self._waiting) > self._depth or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()
