"""What the segmenter says of whole photos."""

from pathlib import Path

from cti.data.mask_records import PhotoRecord
from cti.data.photos import Photo
from cti.evaluate.scores import ListScores
from cti.evaluate.segment_tags import count_alarms, score_known
from cti.evaluate.tables import list_tables

CLASSES = ("crack", "blowhole")


def photo(name: str, *tags: int) -> Photo:
    return Photo(name, Path(f"{name}.jpg"), tags)


def record(*scores: float) -> PhotoRecord:
    return PhotoRecord("", "", (1, 1), None, (), dict(zip(CLASSES, scores, strict=True)), {}, False, 1.0)


def test_tags_are_scored_by_the_largest_probability() -> None:
    known = {"a": record(0.9, 0.1), "b": record(0.2, 0.8), "c": record(0.3, 0.7), "gone": record(1, 1)}
    tags = score_known(known, [photo("a", 0), photo("b", 1), photo("c"), photo("unknown", 0)], CLASSES)
    assert tags is not None
    assert tags.auroc == {"crack": 1.0, "blowhole": 1.0}
    worse = score_known(known | {"c": record(0.95, 0.7)}, [photo("a", 0), photo("b", 1), photo("c")], CLASSES)
    assert worse is not None
    assert worse.auroc == {"crack": 0.5, "blowhole": 1.0}
    assert score_known(known, [photo("c")], CLASSES) is None
    assert score_known({}, [photo("a", 0)], CLASSES) is None
    partly = {"a": record(-1.0, 0.5), "b": PhotoRecord("", "", (1, 1), None, (), {}, {}, False, 1.0)}
    ranked = score_known(partly, [photo("a", 1), photo("b", 0)], CLASSES)
    assert ranked is not None
    assert ranked.auroc == {"crack": 1.0, "blowhole": 1.0}  # what is not known of b counts as 0


def test_alarms_are_counted_where_nine_of_ten_are_found() -> None:
    tagged = {f"t{number}": record(number / 20, 0.01) for number in range(10, 20)}  # 0.50, 0.55, ... 0.95
    normal = {f"n{number}": record(0.0, score) for number, score in enumerate((0.54, 0.55, 0.8, 0.1))}
    photos = [*(photo(name, 0) for name in tagged), *(photo(name) for name in normal)]
    alarms = count_alarms(tagged | normal, photos)
    assert alarms is not None
    assert (alarms.photos, alarms.normal, alarms.found, alarms.false_alarms) == (10, 4, 0.9, 0.5)
    assert count_alarms(tagged, photos) is None
    tags = score_known(tagged | normal, photos, CLASSES)
    (table,) = list_tables(ListScores(segment_tags=tags, segment_alarms=alarms), "val")
    assert "90.0 % of 10 photos with a class" in table.note
    assert "so are 50.0 % of 4 normal ones" in table.note
