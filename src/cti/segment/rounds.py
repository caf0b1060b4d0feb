"""Further rounds without anybody's help: the segmenter learns from what it sees itself, where it is sure of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from cti.classes import IGNORE_INDEX
from cti.data.images import save_mask
from cti.data.photos import Photo
from cti.data.review import with_review
from cti.run import Run, split_by_file
from cti.segment.inference import inference
from cti.segment.make_masks import joint_probabilities
from cti.segment.masks import MaskFolder, MaskOf
from cti.segment.networks import Segmenter
from cti.segment.predict import pixel_probabilities, predict_probabilities

ROUNDS = "rounds"
"""Folder of the networks of the rounds before the last, and of the masks that the later ones learn from."""


def own_masks(run: Run, network: Segmenter, photos: Sequence[Photo], mask_of: MaskOf, folder: Path) -> MaskFolder:
    """Write the masks that the next round learns from: `<photo id>.png`; those that are there already are kept.

    They are decided as the masks of the run are (`joint_probabilities`): by the segmenter, among the photo's tags, and
    by the mask it has learned from. A label less probable than `segment.round_confidence` becomes 255, and what a
    person said stays.

    Args:
        run: The run.
        network: The segmenter of the round before.
        photos: The photos to learn from.
        mask_of: What it has learned from.
        folder: Gets the masks.
    """
    config, settings = run.config.segment, inference(run.config.segment, run.config.predict)
    classes = len(run.photos.classes)
    _, todo = split_by_file(photos, [folder / f"{photo.id}.png" for photo in photos])
    for photo in track(todo, "masks of this round", total=len(todo), console=Console(stderr=True)):
        image, values = photo.load(), np.array([0, *(tag + 1 for tag in photo.tags)], dtype=np.int64)
        chosen = pixel_probabilities(image, predict_probabilities(network, image, settings), values, settings)
        joint = joint_probabilities(chosen, values, mask_of(photo), run.config.predict.pseudo_weight)
        mask = values[joint.argmax(axis=0)].astype(np.uint8)
        mask[joint.max(axis=0) < config.round_confidence] = IGNORE_INDEX
        if not config.masks:
            mask = with_review(run.review, photo, mask, classes)
        save_mask(folder / f"{photo.id}.png", mask)
    return MaskFolder(folder, classes)
