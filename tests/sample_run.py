"""A small finished run: rendered photos of several sizes, random networks, everything else made by the stages."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image

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
from cti.data.readers.shapes import render_scene
from cti.evaluate.tags import TagScores
from cti.method import CTI
from cti.method.checkpoint import save_model
from cti.run import Run
from cti.segment.checkpoint import TrainedSegmenter, save_segmenter
from cti.segment.networks import Segmenter, build_segmenter, describe
from cti.segment.stage import SegmentResult
from cti.train.fit import FitResult
from cti.train.stage import TrainResult

CLASSES = ("cat", "dog", "sofa")  # of VOC, so that a submission can be made
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
    return shaken(CTI.from_config(CLASSES, settings)).eval()


def tiny_segmenter(seed: int = 0, network: str = "vit-upsample") -> tuple[Segmenter, SegmentConfig]:
    torch.manual_seed(seed)
    config = SegmentConfig(
        network=network, backbone="vit", weights="none", crop_size=32, embed_dim=32, depth=2, num_heads=2,
        patch_size=8, drop_path=0.0,
    )  # fmt: skip
    return shaken(build_segmenter(config, len(CLASSES)), 0.2).eval(), config


def tiny_trained(seed: int = 0, network: str = "vit-upsample") -> TrainedSegmenter:
    trained, config = tiny_segmenter(seed, network)
    return TrainedSegmenter(trained, config, PredictConfig(), CLASSES)


def shaken(network: Any, by: float = 0.05) -> Any:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * by)
    return network


def write_photos(root: Path) -> dict[str, Path]:
    """A folder data set: `p0` .. `p5`, of which `p4` and `p5` are val, and one photo without tags."""
    (root / "images").mkdir(parents=True)
    (root / "lists").mkdir()
    lines = ["image,tags"]
    photos = {}
    for index, (height, width) in enumerate(SIZES):
        path = root / "images" / f"p{index}.jpg"
        Image.fromarray(render_scene(0, index, 64).image[:height, :width]).save(path, quality=95)
        tags = (CLASSES[index % 3],) if index % 2 else (CLASSES[index % 3], CLASSES[(index + 1) % 3])
        lines.append(f'{path.name},"{";".join(tags)}"')
        photos[path.stem] = path
    Image.fromarray(render_scene(0, 9, 64).image[:44]).save(root / "images" / f"{UNLISTED}.png")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
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
    half = dict.fromkeys(CLASSES, 0.5)
    tags = TagScores(0.5, 0.5, 0.6, half, half, half, dict.fromkeys(CLASSES, 0.0))
    cost = FitResult(1, 1.0, 1.0, 0.0, 1.0, {})
    with run.stage("train") as stage:
        stage.finish(TrainResult(CLASSES, 4, (), tags, None, "", cost))
    pipeline.seeds(run)
    pipeline.masks(run)
    save_segmenter(run.stage_folder("segment"), TrainedSegmenter(network, segment, config.predict, CLASSES))
    with run.stage("segment") as stage:
        stage.finish(SegmentResult(CLASSES, 4, describe(network, segment), cost))
    pipeline.segment(run)
    return run.folder
