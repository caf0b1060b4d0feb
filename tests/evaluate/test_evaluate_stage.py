"""What the stage looks at: which results are scored, which photos are shown, what is said of a review."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from cti.config import MasksConfig
from cti.data.images import save_mask
from cti.data.photos import Photo
from cti.data.seed_file import Seed, write_seed
from cti.evaluate import stage
from cti.evaluate.labels import label_pixels
from cti.evaluate.list_scores import ResultFolders
from cti.run import Run


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


def test_a_review_flatters_the_lists_that_it_touches(run: Any) -> None:
    assert list(stage.review_sentences(cast(Run, run), ("score", "val"))) == []
    for name in ("01", "02", "03"):  # of the second no true mask is known
        save_mask(run.review / f"{name}.png", np.zeros((4, 6), np.uint8))
    (sentence,) = stage.review_sentences(cast(Run, run), ("score", "val"))
    assert sentence.startswith("2 of 5 photos of the list score were reviewed, so pseudo-masks and masks score better")
