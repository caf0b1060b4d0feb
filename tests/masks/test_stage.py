"""The stage `masks` on drawn photos: what it writes, what it keeps, and how it goes on after a kill."""

import dataclasses
import json
import multiprocessing
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cti.config import AffinityConfig, Config, MasksConfig, PamrConfig, RuntimeConfig
from cti.data import PhotoSet
from cti.data.check import check_data
from cti.data.images import MaskFile, load_mask, save_mask
from cti.masks import stage as masks_stage
from cti.masks.pamr import pamr_step
from cti.masks.pseudo_mask import argmax_mask, pseudo_mask
from cti.masks.scores import start_scores
from cti.masks.seed_folder import SeedFolder
from cti.masks.stage import MasksResult, describe_masks, masks, photos_with_seeds
from cti.masks.steps import read_rgb
from cti.run import Run

CONFIG = MasksConfig(threshold=0.4, foreground=0.5, background=0.4, pamr=PamrConfig(dilations=(1, 2, 4), downscale=1))
CLASSES = ("disc", "box", "bar")


def make_run(drawn, folder: Path, config: MasksConfig = CONFIG, **runtime) -> Run:
    """A run whose seeds are the drawn ones."""
    if not (folder / "seeds").exists():
        shutil.copytree(drawn.seeds, folder / "seeds")
    settings = RuntimeConfig(workers=0, **runtime)
    run = Run(Config(out=str(folder), masks=config, runtime=settings))
    run.photos = PhotoSet(CLASSES, {"train": tuple(drawn.photos), "score": (), "val": ()})  # in place of reading them
    run.check = check_data(run.photos, folder / "check.json", progress=False)
    return run


def seeds_of(run: Run) -> SeedFolder:
    return SeedFolder(run.stage_folder("seeds"), CLASSES)


def test_masks_coverage_and_preview(drawn, tmp_path, iou):
    run = make_run(drawn, tmp_path, preview=2)
    result, seeds = masks(run), seeds_of(run)
    written = [load_mask(run.pseudo_mask(photo)) for photo in drawn.photos]
    for photo, mask in zip(drawn.photos, written, strict=True):
        scores = pamr_step(read_rgb(photo), start_scores(seeds(photo.id), CONFIG), CONFIG.pamr)
        np.testing.assert_array_equal(mask, pseudo_mask(scores, (0, 1), CONFIG))
        confident, truth = mask != 255, drawn.truths[photo.id]
        seed = argmax_mask(start_scores(seeds(photo.id), CONFIG), (0, 1))
        assert iou(mask[confident], truth[confident]) > iou(seed[confident], truth[confident]) > 0.5
    pixels = np.concatenate([mask.ravel() for mask in written])
    assert result == MasksResult(CLASSES, 4, (), ("pamr",), pytest.approx((pixels != 255).mean()), 0)
    assert 0.5 < result.coverage < 1
    assert sorted(path.name for path in (tmp_path / "masks" / "preview").iterdir()) == ["photo0.png", "photo1.png"]
    assert Image.open(run.preview(drawn.photos[0])).size == (3 * 96, 72)
    assert Image.open(run.mask(drawn.photos[0])).mode == "P"
    for photo in drawn.photos:  # until there is a segmenter, they are the masks
        assert run.mask(photo).read_bytes() == run.pseudo_mask(photo).read_bytes()


def test_masks_of_every_step_are_kept_where_they_can_be_scored(drawn, tmp_path):
    run = make_run(drawn, tmp_path / "run")
    first = drawn.photos[0]
    save_mask(tmp_path / "truth.png", drawn.truths[first.id])
    truth = MaskFile(tmp_path / "truth.png", 3, bytes(range(256)))
    run.photos = dataclasses.replace(
        run.photos, lists={**run.photos.lists, "score": (dataclasses.replace(first, mask=truth),)}
    )
    masks(run)
    image, start = read_rgb(first), start_scores(seeds_of(run)(first.id), CONFIG)
    by_hand = {"seed": start, "pamr": pamr_step(image, start, CONFIG.pamr)}
    for step, scores in by_hand.items():
        assert [path.stem for path in run.step_masks(step).iterdir()] == [first.id]
        kept = load_mask(run.step_masks(step) / f"{first.id}.png")
        np.testing.assert_array_equal(kept, argmax_mask(scores, (0, 1)))
        assert not (kept == 255).any()


def test_finished_masks_are_kept(drawn, tmp_path):
    run = make_run(drawn, tmp_path)
    masks(run)
    (tmp_path / "masks" / "manifest.json").unlink()
    run.pseudo_mask(drawn.photos[1]).unlink()
    run.mask(drawn.photos[2]).unlink()
    run.mask(drawn.photos[3]).unlink()
    run.mask(drawn.photos[3]).write_bytes(b"by the segmenter")
    kept = run.pseudo_mask(drawn.photos[0]).stat().st_mtime_ns
    masks(run)
    assert run.pseudo_mask(drawn.photos[1]).is_file()
    assert run.mask(drawn.photos[2]).is_file()
    assert run.mask(drawn.photos[3]).read_bytes() == b"by the segmenter"
    assert run.pseudo_mask(drawn.photos[0]).stat().st_mtime_ns == kept
    with pytest.raises(ValueError, match=r"other settings \(masks\.threshold: 0\.4 there, 0\.3 now"):
        masks(make_run(drawn, tmp_path, dataclasses.replace(CONFIG, threshold=0.3)))


def test_affinity_leaves_its_head_and_no_features(drawn, tmp_path, features, monkeypatch):
    config = MasksConfig(steps=("affinity",), affinity=AffinityConfig(channels=8, epochs=1, walk_steps=4, radius=3))
    monkeypatch.setattr(masks_stage, "load_model", lambda folder: (torch.nn.Identity(), {}))
    asked = []
    monkeypatch.setattr(masks_stage, "backbone_features", lambda *given: asked.append(given) or features)
    run = make_run(drawn, tmp_path, config)
    masks(run)
    ((model, long_side),) = asked
    assert isinstance(model, torch.nn.Identity)
    assert long_side == run.config.seeds.long_side
    assert [path.name for path in (tmp_path / "masks" / "affinity").iterdir()] == ["affinity.safetensors"]


def test_missing_seeds(drawn, tmp_path, caplog):
    run = make_run(drawn, tmp_path)
    run.seed(drawn.photos[2]).unlink()
    with pytest.raises(ValueError, match=r"1 of 4 photos have no seed in .*: photo2; .*--allow-missing"):
        masks(run)
    result = masks(make_run(drawn, tmp_path, allow_missing=True))
    assert (result.photos, result.missing) == (3, ("photo2",))
    assert "1 of 4 photos have no seed" in caplog.text
    assert not run.pseudo_mask(drawn.photos[2]).exists()
    assert not run.mask(drawn.photos[2]).exists()
    for photo in drawn.photos:
        run.seed(photo).unlink(missing_ok=True)
    with pytest.raises(ValueError, match="4 of 4 photos have no seed"):
        photos_with_seeds(make_run(drawn, tmp_path, allow_missing=True))  # of nothing there is no mask


def test_an_empty_list_is_said(drawn, tmp_path):
    run = make_run(drawn, tmp_path)
    run.photos = PhotoSet(CLASSES, {"train": (), "score": (), "val": ()})
    with pytest.raises(ValueError, match="0 of 0 photos have no seed"):
        photos_with_seeds(run)


def test_a_full_disk_leaves_no_mask(drawn, tmp_path, monkeypatch):
    def full(self, path, *args, **kwargs):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        masks(make_run(drawn, tmp_path))
    assert not list((tmp_path / "masks").rglob("*.png")) if (tmp_path / "masks").exists() else True


def _many(drawn, folder: Path) -> Run:
    """A run of a hundred photos: the drawn ones again and again."""
    run = make_run(drawn, folder)
    photos = []
    for number in range(100):
        photo = drawn.photos[number % 4]
        shutil.copy(drawn.seeds / f"{photo.id}.npz", folder / "seeds" / f"many{number}.npz")
        photos.append(dataclasses.replace(photo, id=f"many{number}"))
    run.photos = PhotoSet(CLASSES, {"train": tuple(photos), "score": (), "val": ()})
    return run


def _work(drawn, folder: Path) -> None:
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    masks(_many(drawn, folder))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_killed_run_leaves_whole_masks_and_goes_on(drawn, tmp_path):
    out = tmp_path / "run" / "masks" / "pseudo"
    process = multiprocessing.get_context("fork").Process(target=_work, args=(drawn, tmp_path / "run"))
    process.start()
    deadline = time.monotonic() + 60
    while process.is_alive() and len(list(out.glob("many*.png"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    done = {path.name: path.read_bytes() for path in out.glob("many*.png")}
    assert 5 <= len(done) < 100
    assert not (out.parent / "manifest.json").exists()
    assert masks(_many(drawn, tmp_path / "run")).photos == 100
    assert all((out / name).read_bytes() == content for name, content in done.items())
    fresh = make_run(drawn, tmp_path / "fresh")
    masks(fresh)
    for number in range(100):
        assert (out / f"many{number}.png").read_bytes() == fresh.pseudo_mask(drawn.photos[number % 4]).read_bytes()


def test_only_masks_of_tagged_photos_can_lack_a_class(drawn, tmp_path):
    run = make_run(drawn, tmp_path)
    untagged = dataclasses.replace(drawn.photos[0], tags=())
    for photo in drawn.photos[:3]:
        save_mask(run.pseudo_mask(photo), np.array([[0, 255], [0, 0]], np.uint8))
    assert describe_masks(run, [untagged, *drawn.photos[1:3]]) == (0.75, 2)


@pytest.mark.parametrize(("asked", "taken"), [(-1, 7), (0, 0), (3, 3)])
def test_how_many_processes_refine(drawn, tmp_path, monkeypatch, asked, taken):
    found = []
    monkeypatch.setattr(masks_stage, "refine_photos", lambda *given: found.append(given[4]) or iter(()))
    monkeypatch.setattr(masks_stage.os, "cpu_count", lambda: 7)
    run = make_run(drawn, tmp_path)
    run.config = dataclasses.replace(run.config, runtime=RuntimeConfig(workers=asked))
    masks_stage.refine(run, drawn.photos)
    assert found == [taken]


def test_previews_that_are_there_are_kept_and_new_ones_belong_to_the_stage(drawn, tmp_path):
    masks(make_run(drawn, tmp_path, preview=1))
    first = tmp_path / "masks" / "preview" / "photo0.png"
    first.write_bytes(b"kept")
    masks(make_run(drawn, tmp_path, preview=3))
    assert first.read_bytes() == b"kept"
    files = json.loads((tmp_path / "masks" / "manifest.json").read_text())["files"]
    assert {"preview/photo1.png", "preview/photo2.png"} <= set(files)
    assert "preview/photo3.png" not in files
