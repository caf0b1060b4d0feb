"""examples/simulated_reviewer.py: true masks of some photos, another round, a score."""

import json
from pathlib import Path

import numpy as np
import pytest
from examples import simulated_reviewer

from cti import pipeline
from cti.data.images import load_mask, save_mask
from cti.evaluate.stage import review_sentences
from cti.evaluate.verdict import read_verdict
from cti.run import Run
from tiny import tiny_config, tiny_shapes


def test_photos_of_the_list_and_random_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder = tiny_shapes(tmp_path / "shapes"), tmp_path / "run"
    pipeline.run(tiny_config(root, folder))
    reviews: list[dict[str, bool]] = []
    segment = pipeline.segment

    def watched(run: Run) -> object:
        photos = {photo.id: photo for photo in run.photos.photos()}
        reviews.append({
            path.stem: bool((load_mask(path) == photos[path.stem].mask.load()).all())
            for path in run.review.glob("*.png")
        })  # fmt: skip
        start = (folder / "segment" / "model.safetensors").read_bytes()
        result = segment(run)
        assert (run.stage_folder("segment") / "before").is_dir()  # it went on from its weights
        assert (run.stage_folder("segment") / "model.safetensors").read_bytes() != start
        return result

    monkeypatch.setattr(pipeline, "segment", watched)
    path = simulated_reviewer.main(str(folder), 1, (0, 2))
    results = json.loads(path.read_text())
    assert set(results) == {"before", "no photo", "list, 2 photos", "random 0, 2 photos"}
    assert all(np.isfinite(value) and 0 <= value <= 1 for value in results.values())
    trained = {photo.id for photo in Run.open(folder).photos.lists["train"]}
    listed = [doubt.photo for doubt in read_verdict(folder).doubts if doubt.photo in trained]
    nothing, first, drawn = reviews
    assert list(nothing.values()) == [False]
    assert first == dict.fromkeys(listed[:2], True)
    assert len(drawn) == 2
    assert all(drawn.values())
    assert set(drawn) <= trained

    simulated_reviewer.main(str(folder), 1, (0, 2))  # all of it is done
    assert len(reviews) == 3
    assert json.loads(path.read_text()) == results


def test_scores_of_reviewed_photos_are_marked(tmp_path: Path) -> None:
    run = Run(tiny_config(tiny_shapes(tmp_path / "shapes"), tmp_path / "run"))
    assert list(review_sentences(run, ("score", "val"))) == []
    photo = run.photos.lists["val"][0]
    save_mask(run.review / f"{photo.id}.png", photo.mask.load())
    (said,) = review_sentences(run, ("score", "val"))
    assert said.startswith("1 of 3 photos of the list val were reviewed")
