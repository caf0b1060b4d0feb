"""How much of the intra loss comes from tokens? python examples/intra_noise.py RUN [--stage train] [--photos 48]

I-CTI compares the patch maps of a plain and of an infused pass. With stochastic depth each pass leaves out other
blocks, so that the maps differ even where the tokens do not. The loss is measured as training sees it, and with all
blocks. No mask is read.
"""

import argparse

import torch
from torch import Tensor
from torch.utils.data import default_collate

from cti.data.datasets import TwoViewDataset
from cti.first_look.features import evenly
from cti.method import CTI
from cti.method.checkpoint import load_model
from cti.method.losses import intra_image_loss
from cti.run import Run

BATCH = 8


def main() -> None:
    """Print the loss with and without stochastic depth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("--stage", default="train", help="first_look or train (default: %(default)s)")
    parser.add_argument("--photos", type=int, default=48, help="photos of train (default: %(default)s)")
    given = parser.parse_args()
    run = Run.open(given.run)
    model, _ = load_model(run.stage_folder(given.stage))
    photos = evenly(run.photos.lists["train"], given.photos)
    views = TwoViewDataset(
        photos, len(model.classes), model.config.image_size, model.mean, model.std, 0, run.config.method.crop_scale
    )
    batches = [
        default_collate([views[0, index] for index in range(start, min(start + BATCH, len(photos)))])
        for start in range(0, len(photos), BATCH)
    ]
    torch.manual_seed(0)
    for name, training in (("as training sees it", True), ("with all blocks", False)):
        model.train(training)
        losses = [intra_loss(model, batch["images"], batch["images_pos"]) * len(batch["images"]) for batch in batches]
        print(f"intra loss {name}: {sum(losses) / len(photos):.4f}")


@torch.no_grad()
def intra_loss(model: CTI, images: Tensor, others: Tensor) -> float:
    """The loss of images (B, 3, H, W) whose other views (B, 3, H, W) give the tokens, as in the step."""
    own, other = model.first_blocks(torch.cat([images, others])).split(2)
    plain, infused = model.last_blocks([own, model.infuse(own, other.class_tokens[model.infusion_index])])
    return float(intra_image_loss(plain.patch_maps, infused.patch_maps))


if __name__ == "__main__":
    main()
