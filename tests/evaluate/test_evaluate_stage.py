"""What the stage looks at: which results are scored, which photos are shown, what is said of a review."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from cti.config import MasksConfig
from cti.data.images import save_mask
from cti.data.mask_records import MADE_WITH
from cti.data.photos import Photo
from cti.data.seed_file import Seed, write_seed
from cti.evaluate import stage
from cti.evaluate.labels import label_pixels
from cti.evaluate.list_scores import ResultFolders
from cti.evaluate.scores import ListScores, RunScores
from cti.run import Run
from cti.tables import Table


class _Truth:
    def load(self) -> np.ndarray:
        return np.full((4, 6), 2, np.uint8)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Twenty photos with seeds and pseudo-masks, the last ten of them held out; of every second one a true mask."""
    photos = []
    for number in range(20):
        path = tmp_path / f"{number:02}.png"
        Image.new("RGB", (6, 4), (number, 0, 0)).save(path)
        photos.append(Photo(f"{number:02}", path, (0,), _Truth() if number % 2 else None))
        maps = np.linspace(0, number + 1, 6, dtype=np.float32).reshape(1, 2, 3)
        write_seed(tmp_path / "seeds" / f"{number:02}.npz", {"refined": Seed((0,), (4, 6), maps, None)})
        save_mask(tmp_path / "masks" / f"{number:02}.png", np.ones((4, 6), np.uint8))
    lists = {"train": tuple(photos[:10]), "score": tuple(photos[:10]), "val": tuple(photos[10:])}
    finished: set[str] = set()
    return SimpleNamespace(
        finished=finished.__contains__, done=finished, review=tmp_path / "review",
        stage_folder=lambda name: tmp_path / name, step_masks=lambda step: tmp_path / "steps" / step,
        predictions=lambda variant: tmp_path / "predictions" / variant,
        predicted_seeds=tmp_path / "predicted", pseudo_masks=tmp_path / "pseudo",
        seed=lambda photo: tmp_path / "seeds" / f"{photo.id}.npz",
        mask=lambda photo: tmp_path / "masks" / f"{photo.id}.png",
        pseudo_mask=lambda photo: tmp_path / "pseudo" / f"{photo.id}.png",
        prediction=lambda photo: tmp_path / "predictions" / f"{photo.id}.png",
        config=SimpleNamespace(
            masks=MasksConfig(steps=("resolve_overlap", "pamr")), predict=SimpleNamespace(variants=("single", "other")),
            evaluate=SimpleNamespace(threshold=0.4),
        ),
        photos=SimpleNamespace(lists=lists, classes=("cat", "dog"), photos=lambda: tuple(photos)),
    )  # fmt: skip


def test_only_results_of_finished_stages_are_scored(run: Any, tmp_path: Path) -> None:
    assert stage.result_folders(cast(Run, run)) == ResultFolders()
    run.done.add("seeds")
    seeds = ResultFolders(tmp_path / "seeds", tmp_path / "predicted")
    assert stage.result_folders(cast(Run, run)) == seeds
    run.done |= {"masks", "segment"}
    found = stage.result_folders(cast(Run, run))
    assert (found.seeds, found.predicted_seeds, found.pseudo_masks) == (*_two(seeds), tmp_path / "pseudo")
    assert found.steps == {step: tmp_path / "steps" / step for step in stage.step_names(run.config.masks)}
    assert found.segment == {name: tmp_path / "predictions" / name for name in ("single", "other")}
    assert found.masks == tmp_path / "masks"


def _two(folders: ResultFolders) -> tuple[Path | None, Path | None]:
    return folders.seeds, folders.predicted_seeds


def test_eight_photos_held_out_are_shown_evenly(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = []

    def row(image: Image.Image, classes: Any, masks: Any, **more: Any) -> Any:
        rows.append({"red": image.getpixel((0, 0))[0], "masks": masks, **more})

    monkeypatch.setattr(stage, "panel_row", row)
    stage.panel_rows(cast(Run, run))
    assert [row["name"] for row in rows] == ["10", "11", "12", "13", "15", "16", "17", "19"]
    assert [row["red"] for row in rows] == [int(row["name"]) for row in rows]
    # Before there is a segmenter, a mask is the pseudo-mask, and not shown as another one.
    assert [set(row["masks"]) for row in rows[:2]] == [{"seed"}, {"seed", "truth"}]
    assert (rows[1]["masks"]["truth"] == 2).all()
    np.testing.assert_array_equal(rows[0]["masks"]["seed"], label_pixels(rows[0]["cams"], (0,), 0.4))
    assert rows[0]["class_indices"] == (0,)
    run.done.add("segment")
    run.photos.lists["val"] = ()
    rows.clear()
    stage.panel_rows(cast(Run, run))
    assert [row["name"] for row in rows] == ["00", "02", "05", "08", "10", "13", "16", "19"]
    assert all((row["masks"]["mask"] == 1).all() for row in rows)


def test_scores_are_made_again_when_anything_they_rest_on_is(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever has been made, the true masks, the variants asked for, and how the masks were made."""
    asked: list[Any] = []

    @contextmanager
    def work(name: str, sections: Any, **more: Any) -> Iterator[Any]:
        asked.append((name, sections, more))
        yield SimpleNamespace(finished=len(asked) > 1, result=lambda kind: kind, finish=lambda made: made, folder="out")

    finished = {"seeds": {"finished": "today"}, "segment": {"finished": "later"}}
    run.stage, run.check = work, "check"
    monkeypatch.setattr(stage, "read_manifest", lambda folder: finished.get(folder.name))
    monkeypatch.setattr(stage, "mask_fingerprint", lambda photos, check: [photos is run.photos, check])
    monkeypatch.setattr(stage, "score_run", lambda given, folder: (given is run, folder))
    assert stage.evaluate(cast(Run, run)) == (True, "out")
    (tmp_path / "masks" / MADE_WITH).write_text('{"pseudo_weight": 0.5, "other": 1}')
    assert stage.evaluate(cast(Run, run)) is RunScores  # what was finished before
    common = {
        "made": {"seeds": "today", "segment": "later"}, "truth": [True, "check"], "variants": ("single", "other"),
    }  # fmt: skip
    assert asked == [
        ("evaluate", (), common | {"pseudo_weight": None, "inference": None}),
        ("evaluate", (), common | {"pseudo_weight": 0.5, "inference": None}),
    ]
    run.folder = tmp_path
    finished.clear()
    with pytest.raises(ValueError, match="has no finished seeds, masks or segment"):
        stage.evaluate(cast(Run, run))


@pytest.mark.parametrize("segmented", [False, True])
def test_both_lists_are_scored_and_tags_where_they_were_not_learned_from(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, segmented: bool
) -> None:
    asked: list[Any] = []

    def scored(folders: Any, photos: Any, classes: Any, kinds: Any, *, threshold: float, bootstrap: int) -> ListScores:
        asked.append((folders, photos, classes, kinds, threshold, bootstrap))
        return ListScores(masks=cast(Any, "masks")) if len(asked) == 1 else ListScores()

    done: list[Any] = []
    run.done |= {"segment"} if segmented else set()
    run.config.seeds = SimpleNamespace(kinds=("located",))
    run.config.evaluate.bootstrap, run.photos.has_masks = 7, False
    for name, function in {
        "score_list": scored,
        "read_records": lambda folder: "known",
        "score_known": lambda known, photos, classes: len(photos) or None,
        "count_alarms": lambda known, photos: None,
        "read_tags": lambda folder: "tags",
        "print_tables": lambda tags, lists: done.append((tags, list(lists))),
        "make_verdict": lambda given: done.append(given is run),
        "panel_rows": lambda given: ["row"] if segmented else [],
        "save_panels": lambda *given: done.append(given),
        "absent_sentences": lambda known, classes: (f"{known} {classes}",),
        "gains": lambda given: (1.5,),
    }.items():
        monkeypatch.setattr(stage, name, function)
    found = stage.score_run(cast(Run, run), tmp_path)
    score, val = run.photos.lists["score"], run.photos.lists["val"]
    folders = stage.result_folders(cast(Run, run))
    assert asked == [(folders, photos, ("cat", "dog"), ("located",), 0.4, 7) for photos in (score, val)]
    assert list(found.lists) == (["score", "val"] if segmented else ["score"])  # without what has no score at all
    assert found.lists["score"].segment_tags is None  # all of it was learned from
    if segmented:
        assert found.lists["val"].segment_tags == cast(Any, 10)
    panels = tmp_path / "panels.png"
    assert done[0] == ("tags", list(found.lists))
    assert done[1:] == ([True, (panels, ["row"], ("cat", "dog"))] if segmented else [True])
    assert found.picture == (str(panels) if segmented else None)
    assert (found.remarks, found.gained) == (("known ('cat', 'dog')",), ("1.5",))
    assert "These photos have no masks" in caplog.text
    caplog.clear()
    run.photos.has_masks = True
    stage.score_run(cast(Run, run), tmp_path)
    assert not caplog.records


def test_a_review_flatters_the_lists_that_it_touches(run: Any) -> None:
    assert list(stage.review_sentences(cast(Run, run), ("score", "val"))) == []
    for name in ("01", "02", "03"):  # of the second no true mask is known
        save_mask(run.review / f"{name}.png", np.zeros((4, 6), np.uint8))
    (sentence,) = stage.review_sentences(cast(Run, run), ("score", "val"))
    assert sentence.startswith("2 of 5 photos of the list score were reviewed, so pseudo-masks and masks score better")


@pytest.mark.parametrize(("level", "captions"), [(logging.DEBUG, ["tags", "summary", "details"]),
                                                (logging.INFO, ["tags", "summary"])])  # fmt: skip
def test_details_are_printed_where_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, level: int, captions: list[str]
) -> None:
    printed: list[str] = []
    tables = [Table("summary", (), ()), Table("details", (), (), folded=True)]
    monkeypatch.setattr(stage, "Console", lambda stderr: SimpleNamespace(print=printed.append))
    monkeypatch.setattr(stage, "to_rich", lambda table: table.caption)
    monkeypatch.setattr(stage, "tag_table", lambda tags: Table("tags", (), (), folded=True))
    monkeypatch.setattr(stage, "list_tables", lambda scores, name: tables)
    logger = logging.getLogger(stage.__name__)
    monkeypatch.setattr(logger, "level", level)
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    stage.print_tables(cast(Any, "tags"), {"val": ListScores()})
    stage.print_tables(None, {})
    logger.manager._clear_cache()  # type: ignore[attr-defined]
    assert printed == captions
