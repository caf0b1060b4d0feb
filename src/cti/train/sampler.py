"""Which photos an epoch shows in which order, and which device gets which of them."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """The order of one epoch as (epoch, index) pairs, shuffled by (seed, epoch), in whole batches, each cut by device.

    Args:
        length: Photos in the data set.
        batch_size: Photos per step on all devices; the last incomplete batch is dropped.
        seed: Of the run.
        rank: Of this device.
        world: Number of devices.

    Attributes:
        batch_size: Photos per step on all devices: fewer than asked for if there are no more.
        share: Photos per step on this device.
        steps: Steps in an epoch.

    Raises:
        ValueError: if a batch cannot be shared out evenly, or there are fewer photos than devices.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if batch_size % world or length < world:
            raise ValueError(f"{world} devices cannot share batches of {batch_size} of {length} photos evenly.")
        self.length, self.seed, self.rank = length, seed, rank
        self.share = min(batch_size, length) // world
        self.batch_size = self.share * world
        self.steps = length // self.batch_size
        self.epoch, self.start_step = 0, 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.length, generator=generator).tolist()
        starts = (step * self.batch_size + self.rank * self.share for step in range(self.start_step, self.steps))
        return iter([(self.epoch, index) for start in starts for index in order[start : start + self.share]])

    def __len__(self) -> int:
        return (self.steps - self.start_step) * self.share
