"""Everything tiny that tests build again and again: networks and batches, the oracle's inputs, photos, whole runs.

`tiny_model` is a network on shapes, `options` and `tiny_config` are a run on a dozen rendered shapes of 32 pixels, and
`make_run` is a finished run of animals: rendered photos of several sizes, random networks, the rest made by the stages.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cti import pipeline
from cti.config import (
    Config,
    DataConfig,
    EvaluateConfig,
    MasksConfig,
    ModelConfig,
    PredictConfig,
    SeedsConfig,
    SegmentConfig,
)
from cti.data.readers.shapes import render_scene, render_shapes
from cti.evaluate.tags import TagScores
from cti.method import CTI
from cti.method.checkpoint import save_model
from cti.run import Run
from cti.segment.checkpoint import TrainedSegmenter, save_segmenter
from cti.segment.networks import Segmenter, build_segmenter, describe
from cti.segment.stage import SegmentResult
from cti.settings import load_config
from cti.train.fit import FitResult
from cti.train.stage import TrainResult

CLASSES = ("disc", "ring", "star")


def tiny_model(**options: Any) -> CTI:
    """A 3-block ViT with 8-pixel patches for 32-pixel images; parameters moved off their near-zero start."""
    settings = {"image_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "infusion_index": 0,
                "drop_path": 0.0}  # fmt: skip
    torch.manual_seed(0)
    return shaken(CTI(CLASSES, backbone="vit", pretrained=False, **(settings | options)))


def tiny_batch(size: int = 32, batch: int = 4, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.zeros(batch, len(CLASSES))
    labels[torch.arange(batch), torch.arange(batch) % len(CLASSES)] = 1
    labels[0, 1] = 1
    shape = (batch, 3, size, size)
    return {
        "images": torch.randn(shape, generator=generator),
        "images_pos": torch.randn(shape, generator=generator),
        "labels": labels,
    }


def official_state(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    state = {}
    for name, shape in shapes.items():
        values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape) * 0.05
        is_norm = name.split(".")[-2:-1] in (["norm1"], ["norm2"], ["norm"]) and name.endswith("weight")
        state[name] = torch.from_numpy(values + is_norm)
    return state


def noise(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def shaken(network: Any, by: float = 0.05) -> Any:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * by)
    return network


_VIT = {"backbone": "vit", "weights": "none", "patch_size": "8", "embed_dim": "32", "num_heads": "2"}
_TRAIN = {"epochs": "1", "batch_size": "4", "lr": "1e-3", "warmup_epochs": "0", "precision": "32"}
SETTINGS = {
    "stages": "[train, seeds, masks, segment, evaluate]",
    **{f"model.{name}": value for name, value in _VIT.items()},
    "model.depth": "3",
    "model.image_size": "32",
    "model.infusion_index": "0",
    "model.drop_path": "0",
    "method.bank_size": "2",
    "method.gate": "per_class",
    **{f"train.{name}": value for name, value in _TRAIN.items()},
    "masks.pamr.iterations": "1",
    "masks.pamr.dilations": "[1, 2]",
    **{f"segment.{name}": value for name, value in _VIT.items()},
    "segment.depth": "2",
    "segment.crop_size": "32",
    **{f"segment.train.{name}": value for name, value in _TRAIN.items()},
    "runtime.workers": "0",
    "runtime.accelerator": "cpu",
    "runtime.devices": "1",
}


def options(root: Path, out: Path, **more: str) -> list[str]:
    """Command-line options of a tiny run; `more` are further ones, with `__` for the dots."""
    settings = SETTINGS | {"data.root": str(root), "out": str(out)}
    settings |= {name.replace("__", "."): value for name, value in more.items()}
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def tiny_config(root: Path, out: Path, recipe: str | None = None, **more: str) -> Config:
    """The configuration of a tiny run, on top of a recipe."""
    return load_config(recipe, options(root, out, **more))


def tiny_shapes(root: Path, count: int = 12) -> Path:
    """Render a tiny data set: photos, tags, masks, lists `train` and `val` (a quarter)."""
    return render_shapes(root, count=count, size=32, val_fraction=0.25)


RUN_CLASSES = ("cat", "dog", "sofa")  # of VOC, so that a submission can be made
SIZES = ((40, 64), (64, 40), (48, 48), (33, 57), (64, 64), (57, 40))
UNLISTED = "holiday"  # a photo in the folder that has no tags
THRESHOLD = 0.3


def tiny_cti(seed: int = 0, background: str = "token", patch_features: str = "last") -> CTI:
    """Three blocks on patches of 8 pixels, moved off their near-zero start."""
    torch.manual_seed(seed)
    settings = ModelConfig(
        backbone="vit", weights="none", image_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=2, drop_path=0.0,
        infusion_index=0, background=background, patch_features=patch_features,
    )  # fmt: skip
    return shaken(CTI.from_config(RUN_CLASSES, settings)).eval()


def tiny_segmenter(seed: int = 0, network: str = "vit-upsample") -> tuple[Segmenter, SegmentConfig]:
    torch.manual_seed(seed)
    config = SegmentConfig(
        network=network, backbone="vit", weights="none", crop_size=32, embed_dim=32, depth=2, num_heads=2,
        patch_size=8, drop_path=0.0,
    )  # fmt: skip
    return shaken(build_segmenter(config, len(RUN_CLASSES)), 0.2).eval(), config


def tiny_trained(seed: int = 0, network: str = "vit-upsample") -> TrainedSegmenter:
    trained, config = tiny_segmenter(seed, network)
    return TrainedSegmenter(trained, config, PredictConfig(), RUN_CLASSES)


def write_photos(root: Path) -> dict[str, Path]:
    """A folder data set: `p0` .. `p5`, of which `p4` and `p5` are val, and one photo without tags."""
    (root / "images").mkdir(parents=True)
    (root / "lists").mkdir()
    lines = ["image,tags"]
    photos = {}
    for index, (height, width) in enumerate(SIZES):
        path = root / "images" / f"p{index}.jpg"
        Image.fromarray(render_scene(0, index, 64).image[:height, :width]).save(path, quality=95)
        tags = (RUN_CLASSES[index % 3],) if index % 2 else (RUN_CLASSES[index % 3], RUN_CLASSES[(index + 1) % 3])
        lines.append(f'{path.name},"{";".join(tags)}"')
        photos[path.stem] = path
    Image.fromarray(render_scene(0, 9, 64).image[:44]).save(root / "images" / f"{UNLISTED}.png")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    (root / "classes.txt").write_text("\n".join(RUN_CLASSES) + "\n")
    (root / "lists" / "train.txt").write_text("p0\np1\np2\np3\n")
    (root / "lists" / "val.txt").write_text("p4\np5\n")
    return photos


def make_run(folder: Path, seeds: SeedsConfig | None = None) -> Path:
    """Write photos and a run in `folder`; returns the run's folder."""
    write_photos(folder / "photos")
    model, (network, segment) = tiny_cti(), tiny_segmenter()
    config = Config(
        out=str(folder / "run"),
        data=DataConfig(root=str(folder / "photos")),
        model=model.config,
        seeds=seeds or SeedsConfig(long_side=48, scales=(1.0, 1.5)),
        predict=PredictConfig(lists=("train", "val")),
        evaluate=EvaluateConfig(threshold=THRESHOLD),
        masks=MasksConfig(steps=()),
        segment=segment,
    )
    run = Run(config)
    save_model(run.stage_folder("train"), model, {"tag_thresholds": {"cat": 0.1, "dog": -0.1, "sofa": 0.0}})
    half = dict.fromkeys(RUN_CLASSES, 0.5)
    tags = TagScores(0.5, 0.5, 0.6, half, half, half, dict.fromkeys(RUN_CLASSES, 0.0))
    cost = FitResult(1, 1.0, 1.0, 0.0, 1.0, {})
    with run.stage("train") as stage:
        stage.finish(TrainResult(RUN_CLASSES, 4, (), tags, None, "", cost))
    pipeline.seeds(run)
    pipeline.masks(run)
    save_segmenter(run.stage_folder("segment"), TrainedSegmenter(network, segment, config.predict, RUN_CLASSES))
    with run.stage("segment") as stage:
        stage.finish(SegmentResult(RUN_CLASSES, 4, describe(network, segment), cost))
    pipeline.segment(run)
    return run.folder
