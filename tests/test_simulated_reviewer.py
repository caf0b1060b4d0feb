"""examples/simulated_reviewer.py: true masks of some photos, the segmenter learns on, a score."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from examples.simulated_reviewer import Given, Reviewer, main, points, strokes, whole

from cti import pipeline
from cti.classes import IGNORE_INDEX
from cti.data import Photo
from cti.data.images import save_mask
from cti.evaluate.stage import review_sentences
from cti.evaluate.verdict import read_verdict
from cti.run import Run
from tiny import tiny_config, tiny_shapes


def test_photos_of_the_list_and_random_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder = tiny_shapes(tmp_path / "shapes"), tmp_path / "run"
    pipeline.run(tiny_config(root, folder, segment__network="vit-mlp"))
    reviews: list[tuple[list[str], str]] = []
    score_review = Reviewer.score_review

    def watched(self: Reviewer, photos: Sequence[Photo], given: Given) -> float:
        reviews.append(([photo.id for photo in photos], given.__name__))
        start = self.decoder.state_dict()["layers.1.weight"].clone()
        found = score_review(self, photos, given)
        assert self.decoder.state_dict()["layers.1.weight"].equal(start)  # each review starts from the run's decoder
        return found

    monkeypatch.setattr(Reviewer, "score_review", watched)
    monkeypatch.setattr("cti.segment.patches.WARM_STEPS", 3)
    path = main(str(folder), 1, (2,))
    results = json.loads(path.read_text())
    orders = ["random 0, masks", "doubt, masks", "gain, strokes", "gain, points"]
    assert list(results) == ["gain, masks, 0", "gain, masks, 2", *(f"{name}, 2" for name in orders)]
    assert all(0 < value <= 1 for value in results.values())
    verdict = read_verdict(folder)
    trained = {photo.id for photo in Run.open(folder).photos.lists["train"]}
    doubtful = [doubt.photo for doubt in verdict.doubts if doubt.photo in trained]
    assert reviews[0] == ([], "whole")
    assert reviews[1] == (list(verdict.teaching[:2]), "whole")
    assert [given for _, given in reviews[2:]] == ["whole", "whole", "strokes", "points"]
    assert reviews[3][0] == doubtful[:2]
    assert reviews[4][0] == reviews[5][0] == reviews[1][0]

    main(str(folder), 1, (2,))  # all of it is done
    assert len(reviews) == 6
    assert json.loads(path.read_text()) == results


def test_strokes_and_points_lie_in_each_region() -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[3:12, 3:24] = 1
    mask[20:29, 30:39] = 1
    mask[14, 5:9] = 2
    mask[:, 39] = IGNORE_INDEX
    assert (whole(mask) == mask).all()
    one, some = points(mask), strokes(mask)
    for given in (one, some):
        drawn = given != IGNORE_INDEX
        assert (given[drawn] == mask[drawn]).all()
        assert [np.count_nonzero(given[part] == 1) > 0 for part in (np.s_[:13], np.s_[13:])] == [True, True]
        assert (given == 2).any()
    assert np.bincount(one[one != IGNORE_INDEX]).tolist() == [1, 2, 1]
    assert 3 <= np.count_nonzero(some[20:, 30:] == 1) <= 27  # of 81


def test_scores_of_reviewed_photos_are_marked(tmp_path: Path) -> None:
    run = Run(tiny_config(tiny_shapes(tmp_path / "shapes"), tmp_path / "run"))
    assert list(review_sentences(run, ("score", "val"))) == []
    photo = run.photos.lists["val"][0]
    save_mask(run.review / f"{photo.id}.png", photo.mask.load())
    (said,) = review_sentences(run, ("score", "val"))
    assert said.startswith("1 of 3 photos of the list val were reviewed")
