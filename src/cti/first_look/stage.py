"""The stage `first_look`: what the backbone knows of the classes before anything of it is trained.

A linear head on frozen patch features, found in seconds from tags. It becomes the start of training, it is what
training is measured against, and its maps are a first answer after about a minute.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from cti.data import Photo
from cti.data.batches import load_batches, size_batches, split_large
from cti.data.check_report import held_out_sentence
from cti.data.seed_file import Seed, write_seed
from cti.device import default_device
from cti.evaluate.tags import TagScores, score_tags
from cti.evaluate.wrong_tags import write_tag_logits
from cti.first_look.features import PatchFeatures, evenly, extract_features
from cti.first_look.head import HeadChoice, LinearHead, choose_head, fit_background
from cti.first_look.locator import foreground_of, locate, standing_out
from cti.method import CTI
from cti.method.attention import max_norm
from cti.method.checkpoint import save_model
from cti.run import Run
from cti.seeds.extract import seed_of
from cti.seeds.maps import batch_maps
from cti.seeds.windowed import windowed_maps
from cti.train.tagging import labels_of
from cti.visualize import PanelRow, panel_row, save_panels

logger = logging.getLogger(__name__)

PICTURE = "panels.png"
NUM_SEEDS = 24
NUM_PANELS = 8
MAX_PHOTOS = 2000  # it is a start, not the result
MAX_PATCHES = 30_000  # likewise
_MOST_SHOWN, _SHOWN = 4_000_000, 2000  # pixels: larger photos are reduced to this side before they are drawn
_LEARNED = 0.25  # of the way from chance to perfect
_FEW = 5  # patches: a thing of fewer is hardly more than a place


@dataclass(frozen=True)
class FirstLook:
    """What a linear head on the frozen backbone reaches.

    Args:
        classes: The C foreground classes.
        photos: Photos that the head learned from.
        tag_map: Mean average precision of the tags on photos not learned from; None if no class occurs there.
        tags: The same per class, with thresholds.
        linear_tag_map: That of the linear head alone, on mean features of whole photos: what training must not lose.
        choice: How the head was chosen.
        stand_out: Classes that are located by what differs from photos without any class.
        extents: Class -> the patches that it covers in half of the photos shown; classes that none shows are left out.
        remarks: Sentences about classes that are not learned, and about the backbone if it knows none.
        picture: The first maps, as a picture.
        seconds: Time taken.
    """

    classes: tuple[str, ...]
    photos: int
    tag_map: float | None
    tags: TagScores
    linear_tag_map: float | None
    choice: HeadChoice
    stand_out: tuple[str, ...]
    extents: dict[str, float]
    remarks: tuple[str, ...]
    picture: str
    seconds: float


def first_look(run: Run) -> FirstLook | None:
    """Learn a linear head on the frozen backbone: first_look/, with the network that training starts from.

    Returns:
        The look; None where training starts from scratch (`train.warm_start`).
    """
    config = run.config
    if not config.looks_first:
        return None
    seen = {"long_side": config.seeds.long_side, "window": config.seeds.window}
    with run.stage("first_look", ("data", "model"), seed=config.train.seed, **seen) as stage:
        if stage.finished:
            return stage.result(FirstLook)
        started = time.perf_counter()
        classes = run.photos.classes
        torch.manual_seed(config.train.seed)
        model = CTI.from_config(classes, config.model).to(default_device()).eval()

        # Features are computed once, of a part of the photos where there are too many.
        learned = evenly(run.photos.lists["train"], MAX_PHOTOS)
        held_out = run.photos.lists["val"]
        features = extract_features(model, learned, config.seeds, config.runtime)
        others = extract_features(model, held_out, config.seeds, config.runtime)

        # The head is chosen and scored by tags alone.
        labels = labels_of(learned, len(classes))
        head, choice, across_folds = choose_head(features.pooled(), labels, classes, features.scale())
        of_others = head(others.pooled()) if held_out else torch.zeros(0, len(classes))
        truth = labels_of(held_out, len(classes)) if held_out else labels
        linear = score_tags(of_others if held_out else across_folds, truth, classes)
        start_from_head(model, head, background_of(features, learned, head))

        # It says where the classes are; what is not background says the tags once more, and better.
        located = locate(model, features, learned)
        if located is not None and model.tag_head is not None:
            across_folds = located
            of_others = model.tag_head(foreground_of(model, others).to(model.device)).cpu() if held_out else of_others
        quality = score_tags(of_others if held_out else across_folds, truth, classes)
        write_tag_logits(stage.folder, [*learned, *held_out], torch.cat((across_folds, of_others)))
        save_model(stage.folder, model, {"tag_thresholds": quality.thresholds})

        # Its first maps: of photos that it has not seen, where there are any with tags.
        shown = evenly([photo for photo in held_out or learned if photo.tags], NUM_SEEDS)
        seeds = first_seeds(model, shown, run)
        for photo, seed in seeds:
            write_seed(stage.folder / "seeds" / f"{photo.id}.npz", {"located": seed})
        picture = stage.folder / PICTURE
        rows = [_panel(photo, seed, classes) for photo, seed in seeds[:NUM_PANELS]]
        if rows:
            save_panels(picture, rows, classes)
        carried = {name: float(labels[:, i].sum()) for i, name in enumerate(classes)}
        remarks = remarks_on(quality, carried, len(learned), len(held_out))
        look = FirstLook(
            classes=classes,
            photos=len(learned),
            tag_map=quality.mean_average_precision,
            tags=quality,
            linear_tag_map=linear.mean_average_precision,
            choice=choice,
            stand_out=standing_out(model),
            extents=extents_of([seed for _, seed in seeds], classes),
            remarks=remarks,
            picture=str(picture) if rows else "",
            seconds=round(time.perf_counter() - started, 1),
        )
        _say(look, config.seeds.long_side)
        return stage.finish(look)


def background_of(features: PatchFeatures, photos: Sequence[Photo], head: LinearHead) -> LinearHead:
    """A background channel, learned from patches where the head sees none of the photo's own classes."""
    foreground, patches = [], []
    for photo, kept in zip(photos, features.maps, strict=True):
        h, w, _ = kept.shape
        maps = head(kept)[..., list(photo.tags)].permute(2, 0, 1)  # (n, h, w)
        strongest = max_norm(maps).amax(dim=0).flatten() if photo.tags else torch.zeros(h * w)
        chosen = torch.linspace(0, h * w - 1, min(h * w, max(MAX_PATCHES // len(photos), 1))).round().long()
        foreground.append(strongest[chosen])
        patches.append(kept.flatten(0, 1)[chosen])
    return fit_background(torch.cat(patches).float(), torch.cat(foreground))


@torch.no_grad()
def start_from_head(model: CTI, head: LinearHead, background: LinearHead) -> None:
    """Put linear heads into the patch head: the centre of its 3x3 kernel, zeros around it.

    Args:
        model: The network.
        head: The C foreground channels.
        background: The background channel; not used by a network without one.
    """
    C = len(model.classes)
    weight, bias = model.patch_head.weight, model.patch_head.bias
    assert bias is not None
    weight.zero_()
    weight[-C:, :, 1, 1] = head.weight.T.to(weight)
    bias[-C:] = head.bias.to(bias)
    if model.has_background:
        weight[:1, :, 1, 1] = background.weight.T.to(weight)
        bias[:1] = background.bias.to(bias)


def first_seeds(model: CTI, photos: Sequence[Photo], run: Run) -> list[tuple[Photo, Seed]]:
    """Maps of the photos' own classes, by the locator and the frozen backbone's affinity, mirrored photos included."""
    seeds = []
    config = replace(run.config.seeds, kinds=("located",), scales=(1.0,), flip=True, precision="32")
    whole, large = split_large(photos, config.long_side, config.window, model.patch_size)
    batches = size_batches(whole, config.long_side, model.patch_size, run.config.runtime.batch_size)
    for batch, images in load_batches(batches, model.mean, model.std, run.config.runtime):
        tags = [photo.tags for photo in batch.photos]
        rows = batch_maps(model, images.to(model.device), tags, kinds=("located",))["located"]
        for photo, size, stack in zip(batch.photos, batch.sizes, rows, strict=True):
            seeds.append((photo, seed_of(photo, size, stack, model.has_background)))
    for photo, seen in large:
        maps = windowed_maps(model, photo.load(), seen, photo.tags, config)["located"]
        seeds.append((photo, seed_of(photo, photo.size(), maps, model.has_background)))
    return seeds


def remarks_on(quality: TagScores, photos: dict[str, float], total: int, held_out: int) -> tuple[str, ...]:
    """Sentences about classes that are not learned, or of which it cannot be said, and whether scores can be relied on.

    Args:
        quality: How well tags are predicted on photos not learned from.
        photos: Class -> photos that carry its tag among those learned from.
        total: Photos learned from.
        held_out: Photos that the tags are scored on; 0 = those learned from, in cross-validation.
    """
    remarks, badly, unknown = [], [], []
    known = 0
    for name, precision in quality.average_precision.items():
        if precision is None:
            unknown.append(name)
            continue
        chance = photos[name] / total
        if precision < chance + _LEARNED * (1 - chance):
            badly.append(f"{name} ({precision:.2f}, {photos[name]:.0f} photos)")
        else:
            known += 1
    if badly:
        remarks.append(
            f"Tags hardly learned (average precision, photos to learn from): {', '.join(badly)}; look at these tags, "
            "give more photos, or raise --long-side."
        )
    if unknown:
        remarks.append(
            f"No photo held out has the tag {', '.join(unknown)}, so it cannot be said whether that is learned."
        )
    if not known and any(precision is not None for precision in quality.average_precision.values()):
        remarks.append(
            "None of the classes is learned from what the backbone knows; are its weights pre-trained "
            "(model.weights), and are the tags those of the photos?"
        )
    if few := held_out_sentence(held_out):
        remarks.append(few)
    return tuple(remarks)


def extents_of(seeds: Sequence[Seed], classes: Sequence[str]) -> dict[str, float]:
    """Class -> the median, over the photos that show it, of the patches where its map is above half of its maximum."""
    found: dict[str, list[int]] = {name: [] for name in classes}
    for seed in seeds:
        for index, row in zip(seed.class_indices, seed.maps, strict=True):
            found[classes[index]].append(int((row > row.max() / 2).sum()))
    return {name: float(np.median(patches)) for name, patches in found.items() if patches}


def small_sentence(extents: dict[str, float], long_side: int) -> str:
    """What to do about classes that cover few patches; empty if none does.

    Args:
        extents: See `extents_of`.
        long_side: At which photos were seen; 0 = their own size.
    """
    small = [f"{name} ({patches:.0f})" for name, patches in extents.items() if patches < _FEW]
    if not small or not long_side:
        return ""
    more = round(1.5 * long_side)
    return (
        f"Small at this size (patches covered): {', '.join(small)}. --long-side {more} shows more of their "
        "outline, for about two and a half times the time; tags are not always learned better."
    )


def _panel(photo: Photo, seed: Seed, classes: Sequence[str]) -> PanelRow:
    image, truth = photo.load(), None if photo.mask is None else photo.mask.load()
    if image.width * image.height > _MOST_SHOWN:
        image.thumbnail((_SHOWN, _SHOWN))
        seed = replace(seed, size=(image.height, image.width))
        truth = None if truth is None else np.array(Image.fromarray(truth).resize(image.size, Image.Resampling.NEAREST))
    return panel_row(
        image, classes, {"truth": truth}, name=photo.id, cams=seed.cams(), class_indices=seed.class_indices,
        background_cam=seed.background_cam(),
    )  # fmt: skip


def _say(look: FirstLook, long_side: int) -> None:
    score = "no class occurs among the photos held out" if look.tag_map is None else f"tag mAP {look.tag_map:.3f}"
    logger.info("First look after %.0f s: %s; %s", look.seconds, score, look.picture)
    if look.stand_out:
        logger.info(
            "Looked for as what differs from photos without any class: %s",
            ", ".join(look.stand_out),
        )
    if small := small_sentence(look.extents, long_side):
        logger.info("%s", small)
    for remark in look.remarks:
        logger.warning("%s", remark)
