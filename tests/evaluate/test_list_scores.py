"""Everything that a run has made for a list, scored together; what it has not made is absent."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from cti.data import Photo, save_mask
from cti.data.seed_file import Seed, read_seed, write_seed
from cti.evaluate.confusion import ConfusionMatrix
from cti.evaluate.labels import label_pixels
from cti.evaluate.list_scores import ResultFolders, score_list
from cti.evaluate.masks import count_masks
from cti.evaluate.scores import ForegroundShares, ListScores, RunScores, class_scores, mean_defined
from cti.evaluate.seeds import count_seeds
from cti.evaluate.tables import detail_table, list_tables, measures
from cti.files import from_json, to_json

CLASSES = ("cat", "dog")
SIZE = (4, 5)


@dataclass(frozen=True)
class Drawn:
    """A mask that is held in memory."""

    mask: np.ndarray

    def load(self) -> np.ndarray:
        return self.mask


def mask(*values: int) -> np.ndarray:
    drawn = np.zeros(SIZE, np.uint8)
    drawn.flat[: len(values)] = values
    return drawn


@pytest.fixture
def photos() -> list[Photo]:
    """Two tagged photos with masks, and two normal ones without."""
    return [
        Photo("a", Path("a.jpg"), (0,), Drawn(mask(1, 1))),
        Photo("b", Path("b.jpg"), (1,), Drawn(mask(2, 255))),
        Photo("good1", Path("good1.jpg"), ()),
        Photo("good2", Path("good2.jpg"), ()),
    ]


@pytest.fixture
def folders(tmp_path: Path, photos: list[Photo]) -> ResultFolders:
    for photo in photos:
        # Of normal photos only seeds of predicted tags say anything: class 0 in the first quarter of good1.
        for folder, tags in (("seeds", photo.tags), ("predicted", (0,) if photo.id == "good1" else photo.tags)):
            maps = np.zeros((len(tags), 2, 2), np.float32)
            maps[:, 0, 0] = 1
            seed = Seed(tags, SIZE, maps, np.ones((2, 2), np.float32))
            write_seed(tmp_path / folder / f"{photo.id}.npz", {"refined": seed, "fused": seed})
        save_mask(tmp_path / "segment" / f"{photo.id}.png", mask(1, 1, 255) if photo.id != "good2" else mask())
    for photo in photos[:2]:
        save_mask(tmp_path / "pseudo" / f"{photo.id}.png", mask(photo.tags[0] + 1, 255))
        save_mask(tmp_path / "masks" / f"{photo.id}.png", mask(photo.tags[0] + 1))
    return ResultFolders(
        tmp_path / "seeds", tmp_path / "predicted", tmp_path / "pseudo",
        {"seed": tmp_path / "segment"}, {"single": tmp_path / "segment"}, tmp_path / "masks",
    )  # fmt: skip


def test_each_result_has_the_scores_of_its_own_counting(folders: ResultFolders, photos: list[Photo]) -> None:
    scores = score_list(folders, photos, CLASSES, ("refined", "fused"), threshold=0.3, bootstrap=10)
    assert list(scores.seeds) == ["refined", "fused"]
    expected = count_seeds(folders.seeds, photos[:2], CLASSES, 0.3, kind="fused", keep_areas=True).scores(10)
    assert scores.seeds["fused"] == expected
    assert scores.first_seeds == replace(expected, kind="refined")
    assert scores.masks == count_masks(folders.masks, photos[:2], CLASSES).scores(10)
    assert scores.pseudo_masks == count_masks(folders.pseudo_masks, photos[:2], CLASSES).scores(10) != scores.masks
    assert scores.pseudo_masks.coverage == 38 / 39  # of 40 pixels b lacks one label, where its mask ignores one too
    assert scores.segment["single"] == scores.steps["seed"]
    once, never = (
        score_list(folders, photos, CLASSES, ("fused",), threshold=0.3, **how) for how in ({"bootstrap": 1}, {})
    )
    for scored, expected in ((once, True), (never, False)):
        assert scored.masks is not None
        for column in (scored.seeds["fused"].fixed, scored.masks.as_background):
            assert (column.interval is not None) is expected
    names = ["seed, fixed", "seed, threshold-free", "pseudo-masks", "segmentation, single", "masks"]
    assert list(scores.by_name) == names
    assert list(measures(scores)) == ["best baseline", "seed, swept, uses pixel labels", *names]


def test_normal_photos_say_how_much_is_called_foreground(folders: ResultFolders, photos: list[Photo]) -> None:
    scores = score_list(folders, photos[2:], CLASSES, ("refined",), threshold=0.3)
    nothing = ForegroundShares(2, 0.0, 0.0)
    assert scores == ListScores(normal=scores.normal)  # without masks nothing else is scored
    assert scores.normal["seed"] == nothing
    assert scores.normal["segmentation, single"] == ForegroundShares(2, 0.5, 2 / 40)
    assert scores.normal["seed, predicted tags"].photos == 0.5
    seed = read_seed(folders.predicted_seeds / "good1.npz")
    labelled = (label_pixels(seed.cams(), (0,), 0.3) > 0).sum()
    assert 0 < labelled != (label_pixels(seed.cams(), (0,), 0.6) > 0).sum()
    assert scores.normal["seed, predicted tags"].pixels == labelled / 40
    assert "pseudo-masks" not in scores.normal  # their files are not there
    (table,) = list_tables(scores, "val")
    assert dict(table.rows)["segmentation, single"][0].text == "50.0"
    assert dict(table.rows)["segmentation, single"][1].text == "5.00"


def test_what_is_not_there_for_every_photo_is_not_scored(folders: ResultFolders, photos: list[Photo]) -> None:
    assert score_list(ResultFolders(), photos, CLASSES, ("refined",), threshold=0.3) == ListScores()
    (folders.pseudo_masks / "b.png").unlink()
    scores = score_list(folders, photos, CLASSES, ("refined",), threshold=0.3)
    assert scores.pseudo_masks is None
    assert scores.masks is not None
    assert list_tables(ListScores(), "val") == []
    assert measures(ListScores()) == {}


def test_scores_of_a_run_come_back_equal_from_json(folders: ResultFolders, photos: list[Photo]) -> None:
    lists = {"val": score_list(folders, photos, CLASSES, ("refined",), threshold=0.3, bootstrap=10)}
    scores = RunScores(CLASSES, lists, "panels.png")
    assert from_json(RunScores, json.loads(json.dumps(to_json(scores), allow_nan=False)), "scores.json") == scores


def test_details_are_those_of_the_matrix_and_their_means() -> None:
    matrix = ConfusionMatrix(3, np.array([[6, 2, 0], [1, 1, 0], [0, 0, 0]]))
    scores = class_scores(matrix, CLASSES)
    table = detail_table("seed, fixed", scores, "val")
    texts = {name: [cell.text for cell in cells] for name, cells in table.rows}
    assert texts["cat"] == ["33.3", "50.0", "25.0"]
    assert texts["dog"] == ["-", "-", "0.0"]
    assert texts["mean"] == ["59.5", "62.5", "25.0"]  # (6/7 + 1/3) / 2, (6/8 + 1/2) / 2, (1/2 + 2/8 + 0) / 3
    assert texts["mean"][:2] == [f"{100 * mean:.1f}" for mean in (scores.mean_precision, scores.mean_recall)]
    assert table.folded
    assert mean_defined([None]) is None
    with pytest.raises(ValueError, match="4 names were given for 3 classes"):
        class_scores(matrix, (*CLASSES, "cow"))
