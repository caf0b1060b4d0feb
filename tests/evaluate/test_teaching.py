"""The order in which photos are corrected: classes in turn, of each the photo that shows most of it."""

from pathlib import Path

from cti.data import Photo
from cti.evaluate.teaching import teaching_order


def _photo(name: str, *tags: int) -> Photo:
    return Photo(name, Path(f"{name}.jpg"), tags)


def test_classes_take_turns_and_the_photo_that_shows_most_comes_first() -> None:
    photos = [
        _photo("a", 0),
        _photo("b", 0),
        _photo("c", 0, 1),
        _photo("d", 1),
        _photo("e"),
        _photo("f"),
        _photo("g", 2),
    ]
    covered = {"a": 0.9, "b": 0.2, "c": 0.5, "d": 0.1, "e": 0.8, "f": 1.0}  # of g nothing is known
    assert teaching_order(photos, covered, 3) == ("a", "c", "b", "d", "f", "e")
    assert teaching_order(photos, {}, 3) == ()
