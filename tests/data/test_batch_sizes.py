"""How many photos a network sees at once: as many as asked for, or as the memory of their attention allows."""

import pytest

from cti.data.batches import MAX_TOKENS, parts, photos_at_once


@pytest.mark.parametrize(
    ("size", "asked", "expected"),
    [
        ((80, 160), 4, 4),
        ((80, 160), 10**9, MAX_TOKENS**2 // (10 * 20) ** 2),
        ((160, 80), 10**9, MAX_TOKENS**2 // (10 * 20) ** 2),
        ((8 * MAX_TOKENS, 8), 16, 1),
        ((16 * MAX_TOKENS, 8), 16, 1),  # never none
    ],
)
def test_attention_needs_no_more_than_that_of_the_largest_photo(
    size: tuple[int, int], asked: int, expected: int
) -> None:
    assert photos_at_once(size, 8, asked) == expected


def test_the_last_part_may_be_shorter() -> None:
    assert [list(part) for part in parts(range(5), 2)] == [[0, 1], [2, 3], [4]]
    assert not list(parts([], 2))
