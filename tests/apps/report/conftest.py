"""A tiny finished run: shapes on noise, a random network, seeds that nearly fit."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti.config import Config, DataConfig
from cti.data import PhotoSet, read_photos, save_mask
from cti.data.seed_file import Seed, write_seed
from cti.evaluate.masks import count_masks
from cti.evaluate.scores import ListScores, RunScores
from cti.evaluate.seeds import count_seeds
from cti.evaluate.tags import TagScores
from cti.files import to_json, write_manifest
from cti.method.checkpoint import save_model
from cti.settings import dump_config
from tiny import CLASSES, tiny_model

SIZE = (40, 48)
NUM_PHOTOS = 9


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data check keeps its findings here, not in the user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photos_root(tmp_path: Path) -> Path:
    """A folder data set; photo i has class i % 3, photo 0 two classes; lists train (all but the last 3) and val."""
    root = tmp_path / "photos"
    (root / "images").mkdir(parents=True)
    rows, names = ["image,tags"], [f"p{i}" for i in range(NUM_PHOTOS)]
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{name}.jpg")
        tags = sorted({i % 3, 1} if i == 0 else {i % 3})
        rows.append(f'{name}.jpg,"{";".join(CLASSES[tag] for tag in tags)}"')
        save_mask(root / "masks" / f"{name}.png", _true_mask(tags))
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    (root / "lists").mkdir()
    for name, members in (("train", names[:-3]), ("val", names[-3:])):
        (root / "lists" / f"{name}.txt").write_text("\n".join(members) + "\n")
    return root


def _true_mask(tags: list[int]) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    for place, tag in enumerate(tags):
        mask[8:32, 4 + 20 * place : 20 + 20 * place] = tag + 1
    mask[0] = 255
    return mask


@pytest.fixture
def write_run(tmp_path: Path, photos_root: Path) -> Callable[..., Path]:
    """Write a run folder; `noise` spoils its seeds, `truth=False` takes the masks away before anything is scored."""

    def write(name: str = "run", noise: float = 0.2, truth: bool = True, **train: object) -> Path:
        config = Config(out=str(tmp_path / name), data=DataConfig(root=str(photos_root)))
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, **train))
        if not truth:
            for mask in (photos_root / "masks").iterdir():
                mask.unlink()
        run = tmp_path / name
        run.mkdir()
        (run / "config.yaml").write_text(dump_config(config))
        photo_set = read_photos(config.data)
        _train(run)
        _seeds(run, photo_set, noise)
        if truth:
            _score(run, photo_set)
        return run

    return write


def _train(run: Path) -> None:
    save_model(run / "train", tiny_model())
    lines = [{"step": step, "epoch": step // 10, "lr": 1e-3 / step, "loss": 2 / step, "loss/classification": 1 / step}
             for step in range(1, 21)]  # fmt: skip
    lines.append({"step": 20, "epoch": 1, "tag_map": 0.5})
    (run / "train" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 2')
    average = {"disc": 0.9, "ring": 0.5, "star": None}
    tags = TagScores(0.7, 0.8, 0.6, average, average, average, dict.fromkeys(CLASSES, 0.25))
    result = {"classes": CLASSES, "photos": 6, "notes": ["2 photos <were> odd."], "steps": 20, "seconds": 3.0,
              "images_per_second": 12.5, "waited": 0.1, "peak_memory_gb": 1.25,
              "tags": to_json(tags)}  # fmt: skip
    write_manifest(run / "train", result, stage="train", seed=0, seconds=75.0)


def _seeds(run: Path, photo_set: PhotoSet, noise: float) -> None:
    for number, photo in enumerate(photo_set.photos()):
        draw = np.random.default_rng(number)
        true = _true_mask(list(photo.tags))
        masks = np.stack([true == tag + 1 for tag in photo.tags]).astype(np.float32)
        maps = masks + noise * draw.random(masks.shape, np.float32)
        background = (true == 0) * 0.8 + noise * draw.random(SIZE, np.float32)
        seed = Seed(photo.tags, SIZE, maps, background.astype(np.float32))
        write_seed(run / "seeds" / f"{photo.id}.npz", {"refined": seed, "fused": seed})
        mask = np.where(draw.random(SIZE) < noise, 255, np.where(true == 255, 0, true)).astype(np.uint8)
        save_mask(run / "masks" / "pseudo" / f"{photo.id}.png", mask)
        save_mask(run / "segment" / "predictions" / "single" / f"{photo.id}.png", np.where(mask == 255, 0, mask))
    facts = {"classes": photo_set.classes, "photos": NUM_PHOTOS}
    write_manifest(run / "seeds", {**facts, "written": NUM_PHOTOS, "skipped": 0}, stage="seeds", seconds=4.5)
    write_manifest(run / "masks", {**facts, "made": NUM_PHOTOS}, stage="masks", seconds=9.0)


def _score(run: Path, photo_set: PhotoSet) -> None:
    lists = {}
    for name in ("score", "val"):
        photos, classes = photo_set.lists[name], photo_set.classes
        kinds = {
            kind: count_seeds(run / "seeds", photos, classes, kind=kind, keep_areas=True).scores(20)
            for kind in ("refined", "fused")
        }
        variant = count_masks(run / "segment" / "predictions" / "single", photos, classes).scores()
        masks = count_masks(run / "masks" / "pseudo", photos, classes).scores(20)
        lists[name] = ListScores(seeds=kinds, pseudo_masks=masks, segment={"single": variant})
    write_manifest(run / "evaluate", RunScores(photo_set.classes, lists), stage="scores", seconds=1.0)
