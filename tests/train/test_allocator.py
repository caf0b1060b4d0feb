"""What the C library is told of freed memory."""

from types import SimpleNamespace

import pytest

from cti.train import allocator


@pytest.mark.parametrize(("answers", "taken"), [((1, 1), True), ((0, 1), False), ((1, 0), False)])
def test_glibc_is_told_to_keep_its_heap_and_to_map_nothing(
    monkeypatch: pytest.MonkeyPatch, answers: tuple[int, int], taken: bool
) -> None:
    """By the numbers of malloc.h: M_MMAP_MAX is -4, M_TRIM_THRESHOLD -1, and -1 bytes are never trimmed."""
    told: list[tuple[int, int]] = []

    def mallopt(parameter: int, value: int) -> int:
        told.append((parameter, value))
        return answers[len(told) - 1]

    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert allocator.keep_freed_memory() is taken
    assert told == [(-4, 0), (-1, -1)][: 2 if answers[0] else 1]


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: pytest.fail("it is not glibc"))
    assert allocator.keep_freed_memory() is False
