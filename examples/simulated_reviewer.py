"""What a review is worth: a person gives the true masks of N photos, the segmenter learns on, `val` is scored.

    python examples/simulated_reviewer.py RUN [SEEDS]

RUN is a finished run with a `vit-mlp`, whose photos have true masks. The N photos are those that `cti serve` puts
first ("gain"), the most doubtful ones, or random ones, by SEEDS draws (default 3). Given are whole masks; of those of
`cti serve` also a stroke or a point in each region. N = 0 says nothing: what learning longer is worth. Learning is the
segmenter's own, as after a review, but that features of patches are computed once for all; the pseudo-masks of other
photos stay as they are. Photos of `val` are seen at one scale, not mirrored; classes below their thresholds are left
out, as the product does.
Results lie in RUN-reviewed.json; call it again after an interruption.
"""

import random
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from cti.classes import IGNORE_INDEX
from cti.data import Photo
from cti.evaluate.confusion import ConfusionMatrix
from cti.evaluate.verdict import read_verdict
from cti.files import read_object, write_json
from cti.run import Run
from cti.segment.checkpoint import load_segmenter
from cti.segment.networks import MLPDecoder, ViTSegmenter
from cti.segment.patches import PatchStep, fit_tag_head, frozen_features, patch_dataset
from cti.segment.predict import Seen, argmax_at, without_unlikely
from cti.segment.stage import training_masks
from cti.train.fit import fit
from cti.train.tagging import certain_thresholds

Mask = NDArray[np.uint8]
Given = Callable[[Mask], Mask]
NUMBERS = (5, 10, 20, 40, 80)


def main(folder: str, seeds: int = 3, numbers: Sequence[int] = NUMBERS) -> Path:
    """Score every review that is not scored yet; returns the file of results."""
    out = Path(f"{Path(folder).resolve()}-reviewed.json")
    results = read_object(out) if out.is_file() else {}
    reviewer = Reviewer(Run.open(folder))
    for name, (photos, given) in reviewer.orders(seeds).items():
        for number in (0, *numbers) if name == "gain, masks" else numbers:
            key = f"{name}, {number}"
            if key not in results:
                results[key] = reviewer.score_review(photos[:number], given)
                write_json(out, results)
            print(f"{key}: mIoU on val {100 * results[key]:.1f} %", flush=True)
    return out


class Reviewer:
    """A run's segmenter, and what it sees of all photos."""

    def __init__(self, run: Run) -> None:
        trained = load_segmenter(run.stage_folder("segment"))
        if not isinstance(trained.network, ViTSegmenter) or not isinstance(trained.network.decoder, MLPDecoder):
            raise SystemExit(f"The segmenter of {run.folder} is not a vit-mlp; only its features can be kept.")
        self.run, self.config, self.decoder = run, trained.config, trained.network.decoder
        self.mask_of, self.photos = training_masks(run)
        self.network = trained.network
        window = run.config.predict.window
        look = partial(frozen_features, self.network, long_side=self.config.long_side, window=window)
        self.features = list(look(photos=self.photos, runtime=run.config.runtime))
        self.held_out = list(look(photos=run.photos.lists["val"], runtime=run.config.runtime))

    def orders(self, seeds: int) -> dict[str, tuple[list[Photo], Given]]:
        """The photos to learn from that have a true mask, in several orders, and what is given of their masks."""
        verdict = read_verdict(self.run.folder)
        if verdict is None:
            raise SystemExit(f"{self.run.folder} has no verdict; run `cti evaluate --config {self.run.folder}` first.")
        known = {photo.id: photo for photo in self.photos if photo.mask is not None}
        listed = [known[doubt.photo] for doubt in verdict.doubts if doubt.photo in known]
        taught = [known[name] for name in verdict.teaching if name in known]
        orders: dict[str, tuple[list[Photo], Given]] = {"gain, masks": (taught, whole)}
        for seed in range(seeds):
            orders[f"random {seed}, masks"] = (random.Random(seed).sample(listed, len(listed)), whole)
        return orders | {
            "doubt, masks": (listed, whole), "gain, strokes": (taught, strokes), "gain, points": (taught, points)
        }  # fmt: skip

    def score_review(self, photos: Sequence[Photo], given: Given) -> float:
        """Learn from a review of photos; mIoU on `val`."""
        drawn = {photo.id: given(photo.mask.load()) for photo in photos}

        def mask_of(photo: Photo) -> Mask:
            known = drawn.get(photo.id)
            mask = self.mask_of(photo)
            return mask if known is None else np.where(known == IGNORE_INDEX, mask, known)

        def reviewed(photo: Photo) -> NDArray[np.bool_] | None:
            return drawn[photo.id] != IGNORE_INDEX if photo.id in drawn else None

        torch.manual_seed(0)
        classes = self.run.photos.classes
        network = self.network
        network.decoder = decoder = deepcopy(self.decoder)  # each review starts from the run's
        dataset = patch_dataset(self.photos, self.features, mask_of, len(classes), self.config, reviewed)
        step = PatchStep(network, dataset, self.config.balance, fresh=False)
        settings = replace(self.config.train, epochs=dataset.epochs(self.config.train.batch_size, warm=True))
        with TemporaryDirectory() as out:
            fit(step, dataset, settings, Path(out), step.parameter_groups(self.config), self.run.config.runtime)
        fit_tag_head(decoder, dataset, self.photos, classes)
        return self.score(decoder.eval())

    @torch.no_grad()
    def score(self, decoder: MLPDecoder) -> float:
        """The mIoU of a decoder on `val`, without tags."""
        classes = self.run.photos.classes
        seen = [see(decoder, features) for _, features in self.held_out]
        limits = certain_thresholds(torch.stack([each.scores for each in seen]), [p for p, _ in self.held_out], classes)
        matrix = ConfusionMatrix(1 + len(classes))
        for (photo, _), each in zip(self.held_out, seen, strict=True):
            probabilities = without_unlikely(each, [limits.get(name, 0.0) for name in classes])
            truth = photo.mask.load()
            matrix.update(argmax_at(probabilities, truth.shape), truth)
        return matrix.miou


def see(decoder: MLPDecoder, features: Tensor) -> Seen:
    """What a decoder sees in features (h, w, D)."""
    patches = features.float()
    probabilities = decoder.classify(patches).softmax(dim=-1).movedim(-1, 0)
    highest = probabilities[1:].amax(dim=(1, 2)).clamp(1e-6, 1 - 1e-6)
    return Seen(probabilities, (highest.logit() + decoder.tags(patches.flatten(0, 1))).sigmoid())


def whole(mask: Mask) -> Mask:
    """The whole mask."""
    return mask


def strokes(mask: Mask) -> Mask:
    """The middle of each region, a third of its breadth: about what a stroke of a brush covers."""
    return _inside(mask, lambda depth: depth >= max(depth.max() * 2 / 3, 1))


def points(mask: Mask) -> Mask:
    """One pixel in the middle of each region."""
    return _inside(mask, lambda depth: np.arange(depth.size).reshape(depth.shape) == depth.argmax())


def _inside(mask: Mask, chosen: Callable[[NDArray[np.float64]], NDArray[np.bool_]]) -> Mask:
    """Labels at chosen places of each region of one value, by their distance from its edge; 255 elsewhere."""
    given = np.full_like(mask, IGNORE_INDEX)
    for value in np.unique(mask[mask != IGNORE_INDEX]):
        regions, count = ndimage.label(mask == value)
        for region in range(1, count + 1):
            within = regions == region
            given[within & chosen(ndimage.distance_transform_edt(np.pad(within, 1))[1:-1, 1:-1])] = value
    return given


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
