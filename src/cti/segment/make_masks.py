"""The masks of a run, its result: what the segmenter sees, kept to each photo's tags, joined with pseudo-masks."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from cti.classes import BACKGROUND
from cti.data.images import load_mask, save_mask
from cti.data.mask_records import (
    MADE_WITH,
    RECORDS,
    PhotoRecord,
    absent_sentences,
    add_record,
    read_records,
    write_records,
)
from cti.data.photos import Photo
from cti.data.review import review_marks, with_review
from cti.data.stretched import bands, count_values
from cti.files import JsonObject, file_digest, read_json, read_manifest, to_json, write_json
from cti.run import Run
from cti.segment.checkpoint import WEIGHTS
from cti.segment.inference import Inference, inference
from cti.segment.networks import Segmenter
from cti.segment.predict import Seen, certainties, chosen_probabilities, decided_mask, look_at

logger = logging.getLogger(__name__)


def join(
    probabilities: NDArray[np.float32], values: NDArray[np.int64], pseudo: NDArray[np.uint8] | None, weight: float
) -> NDArray[np.uint8]:
    """Decide every pixel by what the segmenter and the pseudo-mask say.

    The segmenter's log-probability of a label gains `weight` where the pseudo-mask has that label; the highest sum
    wins, ties go to the background. That is the product of the segmenter's probabilities and those of a pseudo-mask
    which is `exp(weight)` times as sure of its label as of any other, and says nothing where it is 255.

    Args:
        probabilities: (1 + n, H, W) of the background and the photo's n classes.
        values: (1 + n,) their mask values, 0 first.
        pseudo: (H, W) the pseudo-mask; None = there is none.
        weight: 0 = the segmenter alone.

    Returns:
        (H, W) mask values.
    """
    return values[_evidence(probabilities, values, pseudo, weight).argmax(axis=0)].astype(np.uint8)


def joint_probabilities(
    probabilities: NDArray[np.float32], values: NDArray[np.int64], pseudo: NDArray[np.uint8] | None, weight: float
) -> NDArray[np.float32]:
    """How probable each label is by that product, (1 + n, H, W) summing to 1; arguments as for `join`."""
    evidence = _evidence(probabilities, values, pseudo, weight)
    odds = np.exp(evidence - evidence.max(axis=0))
    return np.asarray(odds / odds.sum(axis=0))


def give_back(mask: NDArray[np.uint8], pseudo: NDArray[np.uint8], values: NDArray[np.int64]) -> None:
    """Give back classes that the join erased: a photo shows what it is tagged with, however small.

    A class without a pixel gets those that the pseudo-mask gives it. Where another class lay on nothing but these, that
    one gets its own of the pseudo-mask then; if it has none there, it is gone.

    Args:
        mask: (H, W) the joined mask, changed in place.
        pseudo: (H, W) the pseudo-mask.
        values: (1 + n,) the mask values of the background and the photo's n classes.
    """
    held = [value for value in values[1:].tolist() if (pseudo == value).any()]
    while lost := [value for value in held if not (mask == value).any()]:
        mask[pseudo == lost[0]] = lost[0]  # which stays: no other class is given these pixels


def kept_records(run: Run) -> dict[str, PhotoRecord]:
    """What is known of the masks that the segmenter has made, and that are still as they would be made now.

    If they were made otherwise (another segmenter, other pseudo-masks or settings), they are forgotten.
    """
    folder = run.stage_folder("masks")
    settings = _made_with(run)
    if not (folder / MADE_WITH).is_file() or read_json(folder / MADE_WITH) != settings:
        (folder / RECORDS).unlink(missing_ok=True)
        write_json(folder / MADE_WITH, settings)
        return {}
    photos = {photo.id: photo for photo in run.photos.photos()}
    return {
        name: record
        for name, record in read_records(folder).items()
        if (photo := photos.get(name)) is not None
        and record.given == _names(run, photo)
        and record.digest == run.check.digests.get(name)
        and run.mask(photo).is_file()
    }


def make_masks(
    run: Run, network: Segmenter, settings: Inference, unmade: Sequence[Photo], unpredicted: Sequence[Photo]
) -> None:
    """Write masks/<photo>.png, with a line about each, and predictions, which see no tags; the network runs once.

    A photo counts as done when its line is written, after its mask, so a killed run goes on.

    Args:
        run: The run.
        network: The segmenter.
        settings: How it predicts.
        unmade: Photos without a mask of the segmenter.
        unpredicted: Photos without a prediction.
    """
    folder = run.stage_folder("masks")
    for leftover in (*folder.glob(".*.tmp.*"), *run.predictions().glob(".*.tmp.*")):
        leftover.unlink()  # a killed run's unfinished file
    todo = {photo.id: photo for photo in (*unmade, *unpredicted)}
    wanted, predicted = ({photo.id for photo in photos} for photos in (unmade, unpredicted))
    for photo in track(todo.values(), "masks", total=len(todo), console=Console(stderr=True)):
        image = photo.load()
        (seen,) = look_at(network, [image], settings)
        if photo.id in predicted:
            save_mask(run.prediction(photo), decided_mask(image, seen, settings))
        if photo.id in wanted:
            mask, record = _mask(run, photo, image, seen, settings)
            save_mask(run.mask(photo), mask)
            add_record(folder, photo.id, record)
    if unmade:
        records = kept_records(run)
        write_records(folder, records, run.photos.classes)
        tagged = [record for record in records.values() if record.tags]
        empty = sum(record.empty for record in tagged)
        nothing = f"; {empty} of the {len(tagged)} with tags show none of them" if empty else ""
        logger.info("%d masks in %s%s.", len(records), folder, nothing)
        for sentence in absent_sentences(records, run.photos.classes):
            logger.warning("%s", sentence)


def _evidence(
    probabilities: NDArray[np.float32], values: NDArray[np.int64], pseudo: NDArray[np.uint8] | None, weight: float
) -> NDArray[np.float32]:
    evidence = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    if pseudo is not None:
        evidence += np.float32(weight) * (pseudo == values[:, None, None])
    return evidence


def _mask(
    run: Run, photo: Photo, image: Image.Image, seen: Seen, settings: Inference
) -> tuple[NDArray[np.uint8], PhotoRecord]:
    """A photo's mask and what is known of it."""
    classes = run.photos.classes
    values = np.array([0, *(tag + 1 for tag in photo.tags)], dtype=np.int64)
    size = (image.height, image.width)
    chosen = chosen_probabilities(image, seen.probabilities, values, settings)
    pseudo = load_mask(path, max_pixels=photo.max_pixels) if (path := run.pseudo_mask(photo)).is_file() else None
    mask, confidence = np.empty(size, np.uint8), 0.0
    weight = run.config.predict.pseudo_weight
    for rows in bands(size, 2 * len(values)):
        mask[rows] = join(chosen.rows(rows).numpy(), values, None if pseudo is None else pseudo[rows], weight)
    if pseudo is not None and weight > 0:
        give_back(mask, pseudo, values)
    for rows in bands(size, 2 * len(values)):
        sure = chosen.rows(rows).numpy()
        label = np.take_along_axis(sure, np.searchsorted(values, mask[rows])[None], axis=0)
        confidence += float(label.mean()) * (len(mask[rows]) / len(mask))
    mask = with_review(run.review, photo, mask, len(classes))  # what a person painted wins
    counts = count_values(mask)[: len(classes) + 1]
    names = _names(run, photo)
    return mask, PhotoRecord(
        photo=str(photo.image),
        digest=run.check.digests.get(photo.id, ""),
        size=size,
        given=names,
        tags=names,
        scores=dict(zip(classes, seen.scores.tolist(), strict=True)),
        shares={(BACKGROUND, *classes)[value]: int(counts[value]) / mask.size for value in np.flatnonzero(counts)},
        empty=not mask.any(),
        confidence=confidence,
        certainty=dict(zip(classes, certainties(seen.probabilities).tolist(), strict=True)),
    )


def _made_with(run: Run) -> JsonObject:
    """What all masks of the segmenter depend on."""
    pseudo = read_manifest(run.stage_folder("masks"))
    return {
        "segmenter": file_digest(run.stage_folder("segment") / WEIGHTS),
        "pseudo_masks": pseudo and pseudo["finished"],
        "pseudo_weight": run.config.predict.pseudo_weight,
        "review": review_marks(run.review),
        "inference": to_json(inference(run.config.segment, run.config.predict)),
    }


def _names(run: Run, photo: Photo) -> tuple[str, ...]:
    return tuple(run.photos.classes[tag] for tag in photo.tags)
