"""Compare decoders on frozen patch features: python examples/compare_decoders.py RUN [BALANCE ...]

RUN has finished `masks`. Its pseudo-masks of `train` teach one linear layer and two (`vit-mlp`), for each power by
which rare classes weigh more. Photos of `val` are scored by their masks, which nothing here learns from: without tags,
and among the photo's own tags. Photos are not mirrored, and no threshold of tags is used.
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from cti.evaluate.confusion import ConfusionMatrix
from cti.method.checkpoint import load_model
from cti.run import Run
from cti.segment.inference import inference
from cti.segment.networks import MLPDecoder, ViTSegmenter, build_segmenter, start_from
from cti.segment.patches import PatchDataset, PatchStep, frozen_features, patch_dataset
from cti.segment.predict import argmax_at, look_at, without_unlikely
from cti.segment.stage import segment_config, training_masks
from cti.train.fit import fit


def main(folder: str, balances: list[float]) -> None:
    run = Run.open(folder)
    classes = run.photos.classes
    geometry = {
        name: getattr(run.config.model, name) for name in ("backbone", "embed_dim", "depth", "num_heads", "stem")
    }
    config = replace(run.config.segment, network="vit-mlp", weights="none", **geometry)
    model, _ = load_model(run.stage_folder("train"))
    network = build_segmenter(config, len(classes))
    assert isinstance(network, ViTSegmenter)
    start_from(network, model.backbone, model.class_tokens().mean(dim=1, keepdim=True))
    mask_of, photos = training_masks(run)
    features = frozen_features(network, photos, config.long_side, run.config.predict.window, run.config.runtime)
    data = patch_dataset(photos, features, mask_of, len(classes), config)
    for layers in (1, 2):
        for balance in balances:
            torch.manual_seed(0)
            network.decoder = MLPDecoder(data.patches.shape[1], 1 + len(classes))
            if layers == 1:
                network.decoder.layers = nn.Sequential(nn.Linear(data.patches.shape[1], 1 + len(classes)))
            free, given = train_and_score(run, network, data, balance)
            print(
                f"{layers} layers, balance {balance}: {100 * free:.1f} without tags, {100 * given:.1f} with", flush=True
            )


def train_and_score(run: Run, network: ViTSegmenter, data: PatchDataset, balance: float) -> tuple[float, float]:
    """Train the network's decoder as the stage `segment` does; mIoU on `val`, without tags and with them."""
    config = segment_config(run.config)
    step = PatchStep(network, data, balance, fresh=True)
    training = replace(config.train, epochs=data.epochs(config.train.batch_size, warm=False))
    with TemporaryDirectory() as out:
        fit(step, data, training, Path(out), step.parameter_groups(config), run.config.runtime)
    network.eval()
    settings = replace(inference(config, run.config.predict), flip=False)
    matrices = [ConfusionMatrix(1 + len(run.photos.classes)) for _ in range(2)]
    for photo in run.photos.lists["val"]:
        assert photo.mask is not None
        image, truth = photo.load(), photo.mask.load()
        (found,) = look_at(network, [image], settings)
        own = without_unlikely(found, [-1.0 if tag in photo.tags else 2.0 for tag in range(len(run.photos.classes))])
        for matrix, probabilities in zip(matrices, (found.probabilities, own), strict=True):
            matrix.update(argmax_at(probabilities, truth.shape), truth)
    return matrices[0].miou, matrices[1].miou


if __name__ == "__main__":
    main(sys.argv[1], [float(word) for word in sys.argv[2:]] or [0.0, 0.25, 0.5])
