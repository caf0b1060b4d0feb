"""Training of the affinity head on frozen features, and the refinement step made of it.

The backbone is frozen and photos are not augmented, so a photo's features are computed once. The trained head is one
file, written whole; a killed training begins again, on features that are kept.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from cti.config import AffinityConfig
from cti.files import atomic_path
from cti.masks.affinity_labels import grid_size, pair_labels, pair_offsets
from cti.masks.affinity_net import AffinityNet, affinity_loss
from cti.masks.features import Features
from cti.masks.random_walk import random_walk, transition_matrix

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """A photo to learn affinity from.

    Args:
        load: Gives the image, (H, W, 3) uint8 RGB.
        labels: (h, w) confident labels at the grid's points.
    """

    load: Callable[[], NDArray[np.uint8]]
    labels: NDArray[np.uint8]


def train_affinity(
    samples: Sequence[Sample], features: Features, config: AffinityConfig, progress: bool = True
) -> AffinityNet:
    """Train the head on pairs of confident labels.

    Args:
        samples: Photos with confident labels; those in which nothing is sure teach nothing and are left out.
        features: The frozen backbone, best a `FeatureCache`.
        config: Numbers of the step.
        progress: Show a bar.

    Returns:
        The head, in evaluation mode.

    Raises:
        ValueError: if no photo has two different confident labels, or the loss stops being a number.
    """
    useful = [sample for sample in samples if np.unique(sample.labels).size > 1]
    if not any(np.unique(sample.labels[sample.labels < 255]).size > 1 for sample in useful):
        raise ValueError(
            f"None of {len(samples)} photos has both confident foreground and confident background; lower "
            "masks.affinity.foreground, raise masks.affinity.background, or look at the seeds."
        )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        net = AffinityNet(features(useful[0].load()).shape[0], config)
    optimiser = torch.optim.AdamW(net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    batches = -(-len(useful) // config.batch_size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=config.epochs * batches)
    for epoch in range(config.epochs):
        order = np.random.default_rng((config.seed, epoch)).permutation(len(useful))
        losses = []
        starts = range(0, len(order), config.batch_size)
        title = f"affinity, epoch {epoch + 1} of {config.epochs}"
        for start in track(starts, title, console=Console(stderr=True), disable=not progress):
            batch = [useful[index] for index in order[start : start + config.batch_size]]
            for sample in batch:  # photos differ in size: one at a time, gradients added up
                image = sample.load()
                affinity = net.affinity(net(_pixels(image), features(image)))
                loss = affinity_loss(affinity, pair_labels(sample.labels, config.radius)) / len(batch)
                loss.backward()
                losses.append(loss.item() * len(batch))
            if not np.isfinite(losses[-len(batch) :]).all():
                raise ValueError("The affinity loss is not a number any more; lower masks.affinity.lr.")
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            schedule.step()
        logger.info("affinity epoch %d of %d: loss %.4f", epoch + 1, config.epochs, float(np.mean(losses)))
    return net.eval()


class AffinityStep:
    """Refinement by a random walk along learned affinities.

    Args:
        net: The trained head.
        features: The frozen backbone it was trained on.
    """

    def __init__(self, net: AffinityNet, features: Features) -> None:
        self.net = net
        self.features = features

    @torch.no_grad()
    def __call__(self, image: NDArray[np.uint8], scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Refine one photo's scores.

        The walk is that of PSA and IRNet, all channels alike, so a constant background stays as it is. IRNet then
        stretches the classes to a maximum of 1; here they stay as they come. IRNet also wipes scores on the boundary
        before the walk; boundaries learned in a few epochs are too broad for that.

        Args:
            image: (H, W, 3) RGB.
            scores: (1+n, H, W) in [0, 1].

        Returns:
            (1+n, H, W) in [0, 1], bilinear between grid points.
        """
        config = self.net.config
        if len(scores) == 1:
            return scores
        size = (scores.shape[1], scores.shape[2])
        affinity = self.net.affinity(self.net(_pixels(image), self.features(image))).numpy()
        transition = transition_matrix(affinity, pair_offsets(config.radius), config.beta)
        coarse = F.adaptive_avg_pool2d(torch.from_numpy(scores), grid_size(size, config.stride)).numpy()
        walked = random_walk(transition, coarse, config.walk_steps)
        fine: NDArray[np.float32] = F.interpolate(torch.from_numpy(walked)[None], size=size, mode="bilinear")[0].numpy()
        return fine


def save_affinity(net: AffinityNet, path: Path, fingerprint: str) -> None:
    """Write a trained head atomically as safetensors, with its settings and what it was trained on."""
    num_features = net.project[1].in_channels
    settings = json.dumps({"config": dataclasses.asdict(net.config), "num_features": num_features})
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(
            net.state_dict(), temporary, metadata={"settings": settings, "fingerprint": fingerprint}
        )


def load_affinity(path: Path, fingerprint: str) -> AffinityNet | None:
    """Read a trained head, in evaluation mode; None if there is none or it was trained on something else."""
    if not path.exists():
        return None
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    if metadata["fingerprint"] != fingerprint:
        return None
    settings = json.loads(metadata["settings"])
    net = AffinityNet(settings["num_features"], AffinityConfig(**settings["config"]))
    net.load_state_dict(tensors)
    return net.eval()


def _pixels(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
