"""The works that are timed: each built for one contender, `reference` or a variant of `ours`."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from benchmarks.references import (
    plain_blocks,
    plain_pamr,
    plain_probabilities,
    plain_seed_cams,
    plain_walk,
    sweep_by_loop,
)
from benchmarks.setting import Setting
from cti.classes import IGNORE_INDEX
from cti.config import AffinityConfig, MethodConfig, PamrConfig, SeedsConfig, SegmentConfig, TrainConfig
from cti.data.batches import fit_to_patches
from cti.data.seed_file import to_cams
from cti.evaluate.threshold_sweep import ThresholdSweep
from cti.masks.affinity_labels import pair_offsets
from cti.masks.pamr import pamr_step
from cti.masks.random_walk import random_walk, transition_matrix
from cti.method import CTI
from cti.method.reference import plain_pass, plain_step
from cti.method.step import CTIStep
from cti.seeds.maps import scaled_maps
from cti.segment.inference import Inference
from cti.segment.networks import build_segmenter
from cti.segment.predict import predict_probabilities
from cti.segment.step import SegmentationStep
from cti.train.allocator import keep_freed_memory
from cti.train.optimiser import build_optimiser, parameter_groups

PARTS = 8  # turns over which the scored photos are spread


@dataclass(frozen=True)
class Work:
    """One contender's share of a comparison.

    Args:
        run: One repetition. What it returns must be the same for all contenders, to the last bit.
        answer: What all contenders must agree on within a tolerance; called once, not timed.
        count: Photos in one repetition.
    """

    run: Callable[[], Any]
    answer: Callable[[], np.ndarray]
    count: float


def build(name: str, contender: str, setting: Setting) -> Work:
    """Make a work: its network, its photos."""
    torch.manual_seed(0)
    return _WORKS[name](setting, contender)


def _step(setting: Setting, contender: str) -> Work:
    """Forward, backward and AdamW of the training step with all its losses."""
    ours, words = contender.startswith("ours"), contender.split("+")
    if ours:
        keep_freed_memory()  # as `cti.train.fit.fit` does
    model = _model(setting)
    model.recompute = "recompute" in words
    method = MethodConfig()
    step = CTIStep(model, method)
    step.bank.tokens.normal_()
    step.bank.seen.fill_(method.bank_size)  # the gate is open: the cross-image pass runs
    optimiser = _optimiser(parameter_groups(step, TrainConfig(), no_decay=("cls_token",)), ours)
    batch = _batch(setting)

    def losses(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.autocast("cpu", torch.bfloat16) if "bf16" in words else nullcontext():
            if ours:
                return step(batch, epoch=0)
            return plain_step(model, method, batch, step.bank.means(), step.bank.full)

    def run() -> None:
        losses(batch)["loss"].backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def answer() -> np.ndarray:
        model.eval()  # stochastic depth draws differently
        two = {name: value[:2] for name, value in batch.items()}
        if not ours:  # `step` appends to its bank; `plain_step` wants that done
            own = plain_pass(model, two["images"]).class_tokens[model.infusion_index]
            step.bank.append(own[:, -setting.num_classes :], two["labels"])
        value = losses(two)["loss"]
        model.train()
        return value.float().numpy()

    return Work(run, answer, setting.batch)


def _seeds(setting: Setting, contender: str) -> Work:
    """From normalised photos in memory to CAMs at their size: mirror image included, two tags each."""
    is_ours = contender.startswith("ours")
    if is_ours:
        keep_freed_memory()  # as `cti.pipeline.seeds` does
    scale = setting.long_side / max(setting.photo) if contender.endswith("+small") else 1.0
    model = _model(setting).eval()
    images = torch.randn(setting.photos, 3, *setting.photo)
    tags = [(number % setting.num_classes, (number + 1) % setting.num_classes) for number in range(setting.photos)]
    config = SeedsConfig(kinds=("refined",))

    @torch.inference_mode()
    def ours(count: int, precision: Literal["auto", "32"] = "auto") -> list[Tensor]:
        size = fit_to_patches(setting.photo, model.patch_size, scale)
        resized = F.interpolate(images[:count], size, mode="bilinear", antialias=True)
        maps = scaled_maps(model, resized, tags[:count], replace(config, precision=precision))
        return [to_cams(stack[:2], setting.photo) for stack in maps["refined"]]

    def plain(count: int) -> list[Tensor]:
        return [plain_seed_cams(model, image, pair) for image, pair in zip(images[:count], tags, strict=False)]

    if is_ours:  # timed as users run it, in bfloat16 where the processor is quick at it; compared in float32
        return Work(_timed(lambda: ours(setting.photos)), lambda: ours(1, "32")[0].numpy(), setting.photos)
    return Work(_timed(lambda: plain(setting.photos)), lambda: plain(1)[0].numpy(), setting.photos)


def _scoring(setting: Setting, contender: str) -> Work:
    """Confusion matrices at 100 thresholds; CAMs and true masks are in memory. A turn scores the next eighth."""
    thresholds = np.linspace(0, 1, 100)
    photos = list(_scored_photos(setting))
    parts = cycle([photos[part::PARTS] for part in range(PARTS)])

    def run() -> np.ndarray:
        if contender == "reference":
            return sweep_by_loop(next(parts), setting.classes, thresholds)
        sweep = ThresholdSweep(setting.classes, thresholds)
        for cams, indices, mask in next(parts):
            sweep.update(cams, indices, mask)
        return sweep.compute().counts

    return Work(run, lambda: np.zeros(()), len(photos) / PARTS)


def _scored_photos(setting: Setting) -> Iterator[tuple[np.ndarray, tuple[int, ...], np.ndarray]]:
    rng = np.random.default_rng(0)
    height, width = setting.photo
    for number in range(setting.scored):
        size = (height, width) if number % 3 else (width, height)
        indices = tuple(sorted(rng.choice(setting.num_classes, size=1 + number % 2, replace=False).tolist()))
        coarse = torch.from_numpy(rng.random((1, len(indices), 8, 8), dtype=np.float32))
        cams = to_cams(coarse[0], size).numpy()
        mask = np.where(cams.max(axis=0) > 0.6, np.array(indices)[cams.argmax(axis=0)] + 1, 0).astype(np.uint8)
        mask[(cams.max(axis=0) > 0.58) & (cams.max(axis=0) < 0.62)] = IGNORE_INDEX
        yield cams, indices, mask


def _pamr(setting: Setting, contender: str) -> Work:
    """Pixel-adaptive refinement of three score maps a photo, default settings."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*setting.photo, 3), dtype=np.uint8)
    scores = rng.random((3, *setting.photo), dtype=np.float32)
    step = pamr_step if contender == "ours" else plain_pamr

    def refine() -> np.ndarray:
        return step(image, scores, PamrConfig())

    return Work(_timed(refine), refine, 1)


def _walk(setting: Setting, contender: str) -> Work:
    """256 steps of the random walk of three score maps on a grid of 8 pixels."""
    rng = np.random.default_rng(0)
    config = AffinityConfig()
    offsets = pair_offsets(config.radius)
    affinity = (0.5 + rng.random((len(offsets), *setting.grid), dtype=np.float32) / 2).astype(np.float32)
    scores = rng.random((3, *setting.grid), dtype=np.float32)

    def walk() -> np.ndarray:
        if contender == "ours":
            return random_walk(transition_matrix(affinity, offsets, config.beta), scores, config.walk_steps)
        return plain_walk(affinity, offsets, config.beta, scores, config.walk_steps)

    return Work(_timed(walk), walk, 1)


def _segmenter_step(setting: Setting, contender: str) -> Work:
    """Forward, backward and AdamW of the segmentation network."""
    ours = contender == "ours"
    if ours:
        keep_freed_memory()
    step = _segmenter(setting, ours)
    optimiser = _optimiser(step.parameter_groups(TrainConfig()), ours)
    size = (setting.batch, setting.image_size, setting.image_size)
    batch = {
        "images": torch.randn(size[0], 3, *size[1:]),
        "masks": torch.randint(0, setting.num_classes + 1, size),
    }

    def run() -> None:
        step(batch, epoch=0)["loss"].backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def answer() -> np.ndarray:
        step.eval()
        loss = step({name: value[:2] for name, value in batch.items()}, epoch=0)["loss"]
        step.train()
        return loss.numpy()

    return Work(run, answer, setting.batch)


def _segmenter_prediction(setting: Setting, contender: str) -> Work:
    """Class probabilities of a photo and its mirror image at its own size."""
    network = _segmenter(setting, contender == "ours").network.eval()
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (*setting.photo, 3), dtype=np.uint8))

    def predict() -> Tensor:
        if contender == "ours":
            return predict_probabilities(network, photo, Inference(precision="32"))
        return plain_probabilities(network, photo)

    return Work(_timed(predict), lambda: predict().numpy(), 1)


_WORKS: dict[str, Callable[[Setting, str], Work]] = {
    "step": _step,
    "seeds": _seeds,
    "scoring": _scoring,
    "pamr": _pamr,
    "walk": _walk,
    "segmenter_step": _segmenter_step,
    "segmenter_prediction": _segmenter_prediction,
}


def _timed(call: Callable[[], Any]) -> Callable[[], None]:
    """The call without its result, which is compared as `answer` instead."""

    def run() -> None:
        call()

    return run


def _sizes(setting: Setting) -> dict[str, Any]:
    return {
        "embed_dim": setting.embed_dim,
        "depth": setting.depth,
        "num_heads": setting.num_heads,
        "patch_size": setting.patch_size,
    }


def _model(setting: Setting) -> CTI:
    model = CTI(
        setting.classes,
        setting.backbone,
        pretrained=False,
        image_size=setting.image_size,
        infusion_index=setting.infusion_index,
        **_sizes(setting),
    )
    with torch.no_grad():
        model.patch_head.weight.normal_(std=0.1)  # maps that are not flat, so that answers can differ
    return model


def _batch(setting: Setting) -> dict[str, Tensor]:
    """Two views and 1.5 tags a photo."""
    shape = (setting.batch, 3, setting.image_size, setting.image_size)
    labels = torch.zeros(setting.batch, setting.num_classes)
    places = torch.arange(setting.batch)
    labels[places, places % setting.num_classes] = 1
    labels[places[::2], (places[::2] + 7) % setting.num_classes] = 1
    return {"images": torch.randn(shape), "images_pos": torch.randn(shape), "labels": labels}


def _optimiser(groups: list[dict[str, Any]], ours: bool) -> torch.optim.Optimizer:
    optimiser = build_optimiser(groups) if ours else torch.optim.AdamW(groups)
    for group in optimiser.param_groups:
        group["lr"] = 1e-5
    return optimiser


def _segment_config(setting: Setting) -> SegmentConfig:
    return SegmentConfig(backbone=setting.backbone, weights="none", crop_size=setting.image_size, **_sizes(setting))


def _segmenter(setting: Setting, ours: bool) -> SegmentationStep:
    network = build_segmenter(_segment_config(setting), setting.num_classes)
    if not ours:
        plain_blocks(network)
    return SegmentationStep(network)
