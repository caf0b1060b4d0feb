"""Do class tokens reach the patches? python examples/token_reach.py RUN [--photos 32] [--stage train]

Infusion works as far as patches attend to class tokens, and tokens of different photos differ. Both are measured
block by block, and so is what comes of it: how much the patch maps change when a photo is infused with the tokens of
another one that has none of its classes. No mask is read.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import default_collate

from cti.data import Photo
from cti.data.datasets import TagDataset
from cti.method import CTI
from cti.method.attention import attention_matrix
from cti.method.checkpoint import load_model
from cti.method.losses import intra_image_loss
from cti.run import Run
from cti.tables import Table, row, to_markdown

BATCH = 8


@dataclass(frozen=True)
class Reach:
    """What class tokens do at one block, mean over photos.

    Args:
        attention: Share of the patches' attention that goes to class tokens, from 0 to 1.
        difference: |theirs - own| / |own| of the class tokens at the block's output, `theirs` being another photo's.
        infused: |infused - plain| / |plain| of the patch maps, theirs averaged into one's own after this block, as the
            method does; None after the last block.
        exchanged: The same with theirs in place of one's own.
        loss: `intra_image_loss` of the plain and the infused maps, which is what training sees.
    """

    attention: float
    difference: float
    infused: float | None = None
    exchanged: float | None = None
    loss: float | None = None


@torch.inference_mode()
def token_reach(model: CTI, images: Tensor, others: Tensor) -> list[Reach]:
    """Measure every block.

    Args:
        model: In eval mode; its infusion index is left as it was.
        images: (B, 3, H, W), normalised.
        others: (B, 3, H, W), photos that have none of the classes of those in `images`.
    """
    plain, foreign = model(images), model(others)
    K, before, found = model.num_class_tokens, model.infusion_index, []
    try:
        for block, (queries, keys, bias) in enumerate(plain.attention):
            weights = attention_matrix(queries[:, :, K:], keys, bias)
            attention = weights[..., :K].sum(dim=-1).mean().item()
            own, theirs = plain.class_tokens[block], foreign.class_tokens[block]
            difference = relative_change(theirs, own)
            if block == model.depth - 1:
                found.append(Reach(attention, difference))
                break
            model.infusion_index = block
            infused = model(images, infuse=theirs).patch_maps
            exchanged = model(images, infuse=2 * theirs - own).patch_maps  # averaged with `own` that is `theirs`
            found.append(
                Reach(
                    attention,
                    difference,
                    relative_change(infused, plain.patch_maps),
                    relative_change(exchanged, plain.patch_maps),
                    intra_image_loss(plain.patch_maps, infused).item(),
                )
            )
    finally:
        model.infusion_index = before
    return found


def relative_change(changed: Tensor, plain: Tensor) -> float:
    """|changed - plain| / |plain| of each photo, mean over photos; both (B, ...)."""
    ratio = (changed - plain).flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1).clamp(min=1e-12)
    return ratio.mean().item()


def foreign_pairs(photos: Sequence[Photo]) -> list[tuple[Photo, Photo]]:
    """Each photo with the next one that has tags and shares none; photos without such a one are left out."""

    def pairs() -> Iterator[tuple[Photo, Photo]]:
        for place, photo in enumerate(photos):
            rest = (*photos[place + 1 :], *photos[:place])
            other = next((other for other in rest if other.tags and not {*other.tags} & {*photo.tags}), None)
            if photo.tags and other is not None:
                yield photo, other

    return list(pairs())


def reach_table(batches: Sequence[list[Reach]], uniform: float) -> Table:
    """Means over batches of equal size, a row per block."""
    rows = []
    for block, reaches in enumerate(zip(*batches, strict=True)):
        cells = []
        for name in ("attention", "difference", "infused", "exchanged", "loss"):
            values = [value for reach in reaches if (value := getattr(reach, name)) is not None]
            cells.append(f"{sum(values) / len(values):.4f}" if values else "-")
        rows.append(row(str(block), *cells))
    header = ("block", "patches' attention to class tokens", "tokens differ by", "maps change, infused",
              "maps change, exchanged", "intra loss")  # fmt: skip
    note = f"If patches attended to all tokens alike, {uniform:.4f} would go to class tokens. Blocks count from 0."
    return Table("Class tokens reach the patches", header, tuple(rows), note=note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder")
    parser.add_argument("--photos", type=int, default=32, help="pairs of photos of val, in whole batches of 8")
    parser.add_argument("--stage", choices=("train", "first_look"), default="train", help="whose network")
    options = parser.parse_args()
    run = Run.open(options.run)
    model, _ = load_model(run.stage_folder(options.stage))
    lists = run.photos.lists
    pairs = (foreign_pairs(lists["val"]) or foreign_pairs(lists["train"]))[: options.photos]
    if not pairs:
        raise SystemExit("No two photos have different classes, so no tokens can be exchanged.")
    image_size = run.config.model.image_size
    size, batches = min(BATCH, len(pairs)), []
    for start in range(0, len(pairs) - size + 1, size):
        images, others = (
            default_collate(list(TagDataset(side, len(model.classes), image_size, model.mean, model.std)))["images"]
            for side in zip(*pairs[start : start + size], strict=True)
        )
        batches.append(token_reach(model, images, others))
    patches = (image_size // model.patch_size) ** 2
    uniform = model.num_class_tokens / (model.num_class_tokens + patches)
    print(to_markdown(reach_table(batches, uniform)))


if __name__ == "__main__":
    main()
