import dataclasses
import multiprocessing
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image

from cti.config import AffinityConfig, PamrConfig, RefineConfig
from cti.data.images import load_mask
from cti.masks.chain import refine_folder
from cti.masks.pamr import pamr_step
from cti.masks.pseudo_mask import decide, pseudo_mask
from cti.masks.scores import start_scores
from cti.masks.seed_folder import SeedFolder
from cti.masks.steps import read_rgb

CONFIG = RefineConfig(threshold=0.4, foreground=0.5, background=0.4, pamr=PamrConfig(dilations=(1, 2, 4), downscale=1))
CLASSES = ("disc", "box", "bar")


@pytest.fixture
def seeds(drawn):
    return SeedFolder(drawn.seeds, CLASSES)


def test_masks_coverage_and_preview(drawn, seeds, tmp_path, iou):
    config = dataclasses.replace(CONFIG, preview=2)
    result = refine_folder(drawn.photos, seeds, config, out=tmp_path, progress=False)
    masks = [load_mask(tmp_path / f"{photo.id}.png") for photo in drawn.photos]
    for photo, mask in zip(drawn.photos, masks, strict=True):
        scores = pamr_step(read_rgb(photo.image), start_scores(seeds(photo.id), config), config.pamr)
        np.testing.assert_array_equal(mask, pseudo_mask(scores, (0, 1), config))
        sure, truth = mask != 255, drawn.truths[photo.id]
        seed = decide(start_scores(seeds(photo.id), config), (0, 1))
        assert iou(mask[sure], truth[sure]) > iou(seed[sure], truth[sure]) > 0.5
    pixels = np.concatenate([mask.ravel() for mask in masks])
    assert result["coverage"] == pytest.approx((pixels != 255).mean())
    assert 0.5 < result["coverage"] < 1
    assert (result["photos"], result["made"], result["missing"]) == (4, 4, [])
    assert result["without_foreground"] == 0
    assert sorted(path.name for path in (tmp_path / "preview").iterdir()) == ["photo0.png", "photo1.png"]
    assert Image.open(tmp_path / "preview" / "photo0.png").size == (3 * 96, 72)
    assert Image.open(tmp_path / "photo0.png").mode == "P"


def test_masks_of_every_step_are_kept_where_asked_for(drawn, seeds, tmp_path):
    first = drawn.photos[0]
    refine_folder(drawn.photos, seeds, CONFIG, out=tmp_path, keep_steps={first.id}, progress=False)
    image, start = read_rgb(first.image), start_scores(seeds(first.id), CONFIG)
    by_hand = {"seed": start, "pamr": pamr_step(image, start, CONFIG.pamr)}
    for step, scores in by_hand.items():
        assert [path.stem for path in (tmp_path / "steps" / step).iterdir()] == [first.id]
        kept = load_mask(tmp_path / "steps" / step / f"{first.id}.png")
        np.testing.assert_array_equal(kept, decide(scores, (0, 1)))
        assert not (kept == 255).any()


def test_finished_masks_are_kept(drawn, seeds, tmp_path):
    refine_folder(drawn.photos, seeds, CONFIG, out=tmp_path, progress=False)
    (tmp_path / "photo1.png").unlink()
    kept = (tmp_path / "photo0.png").stat().st_mtime_ns
    result = refine_folder(drawn.photos, seeds, CONFIG, out=tmp_path, progress=False)
    assert result["made"] == 1
    assert (tmp_path / "photo0.png").stat().st_mtime_ns == kept
    with pytest.raises(ValueError, match="other settings"):
        refine_folder(drawn.photos, seeds, dataclasses.replace(CONFIG, threshold=0.3), out=tmp_path, progress=False)


def test_affinity_leaves_its_head_and_no_features(drawn, seeds, tmp_path, features):
    config = RefineConfig(steps=("affinity",), affinity=AffinityConfig(channels=8, epochs=1, walk_steps=4, radius=3))
    refine_folder(drawn.photos, seeds, config, out=tmp_path, features=features, progress=False)
    assert [path.name for path in (tmp_path / "affinity").iterdir()] == ["affinity.safetensors"]


def test_missing_seeds(drawn, tmp_path):
    folder = tmp_path / "seeds"
    shutil.copytree(drawn.seeds, folder)
    (folder / "photo2.npz").unlink()
    seeds = SeedFolder(folder, CLASSES)
    with pytest.raises(ValueError, match=r"1 of 4 photos have no seed in .*: photo2; .*--allow-missing"):
        refine_folder(drawn.photos, seeds, CONFIG, out=tmp_path / "masks", progress=False)
    config = dataclasses.replace(CONFIG, allow_missing=True)
    result = refine_folder(drawn.photos, seeds, config, out=tmp_path / "masks", progress=False)
    assert (result["photos"], result["missing"]) == (3, ["photo2"])
    assert not (tmp_path / "masks" / "photo2.png").exists()


def test_an_empty_list_is_said(seeds, tmp_path):
    with pytest.raises(ValueError, match="empty"):
        refine_folder([], seeds, CONFIG, out=tmp_path, progress=False)


def test_a_full_disk_leaves_no_mask(drawn, seeds, tmp_path, monkeypatch):
    def full(self, path, *args, **kwargs):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        refine_folder(drawn.photos, seeds, CONFIG, out=tmp_path, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def _run(photos, seeds, out):
    torch.set_num_threads(1)  # a forked process has none of its parent's threads
    refine_folder(photos, seeds, CONFIG, out=out, progress=False)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_killed_run_leaves_whole_masks_and_goes_on(drawn, tmp_path):
    folder = tmp_path / "seeds"
    shutil.copytree(drawn.seeds, folder)
    photos = []
    for number in range(100):
        photo = drawn.photos[number % 4]
        shutil.copy(folder / f"{photo.id}.npz", folder / f"many{number}.npz")
        photos.append(dataclasses.replace(photo, id=f"many{number}"))
    seeds, out = SeedFolder(folder, CLASSES), tmp_path / "masks"
    process = multiprocessing.get_context("fork").Process(target=_run, args=(photos, seeds, out))
    process.start()
    deadline = time.monotonic() + 30
    while process.is_alive() and len(list(out.glob("many*.png"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    done = {path.name: path.read_bytes() for path in out.glob("many*.png")}
    assert 5 <= len(done) < 100
    result = refine_folder(photos, seeds, CONFIG, out=out, progress=False)
    assert result["made"] == 100 - len(done)
    assert all((out / name).read_bytes() == content for name, content in done.items())
    fresh = tmp_path / "fresh"
    refine_folder(photos[:4], seeds, CONFIG, out=fresh, progress=False)
    for number in range(100):
        assert (out / f"many{number}.png").read_bytes() == (fresh / f"many{number % 4}.png").read_bytes()
