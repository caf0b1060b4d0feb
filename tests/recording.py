"""Trainings that write down what happens in each step, in any process: they and their photos can be pickled."""

from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.data import Dataset

from cti.config import MethodConfig, RuntimeConfig, SegmentConfig, TrainConfig
from cti.method.step import CTIStep
from cti.segment.networks import build_segmenter
from cti.segment.step import SegmentationStep
from cti.train.fit import _fit, _Job
from cti.train.optimiser import parameter_groups
from tiny import CLASSES, tiny_model

CONFIG = TrainConfig(epochs=2, batch_size=4, lr=1e-3, warmup_epochs=0, precision="64", clip=0.5)


class Noise(Dataset[dict[str, Tensor]]):
    """Noise that depends on (epoch, index) only, with 0 to 2 tags and from no to all pixels labelled."""

    def __init__(self, length: int = 14, labelled: bool = False, dies_after: int = 10**9) -> None:
        self.length, self.labelled, self.dies_after = length, labelled, dies_after

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        epoch, index = key
        self.dies_after -= 1
        if self.dies_after < 0:
            raise KeyboardInterrupt
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        labels = torch.zeros(len(CLASSES))
        labels[[index % 3, index % 2][: index % 4]] = 1  # every fourth photo shows nothing
        views = torch.randn(2, 3, 32, 32, generator=generator)
        masks = torch.randint(0, 1 + len(CLASSES), (32, 32), generator=generator)
        if not self.labelled:
            masks[: 4 * (index % 9)] = 255
        return {"images": views[0], "images_pos": views[1], "labels": labels, "masks": masks}


class Recorded(nn.Module):
    """A step that writes `<step>-<rank>.pt` into a folder: loss, gradients, weights and buffers."""

    def __init__(self, step: nn.Module, folder: Path) -> None:
        super().__init__()
        self.step, self.folder, self.losses, self.count = step, folder, [], 0
        self.hooks: list[Any] = []
        self.rank = 0

    def forward(self, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        if not self.hooks:
            self.hooks = [
                register_optimizer_step_pre_hook(lambda *_: self.keep_gradients()),
                register_optimizer_step_post_hook(lambda *_: self.write()),
            ]
        scalars = self.step(batch, epoch)
        self.losses.append({name: value.detach().double() for name, value in scalars.items()})
        return scalars

    def keep_gradients(self) -> None:
        parameters = self.step.named_parameters()
        self.gradients = {name: value.grad.clone() for name, value in parameters if value.grad is not None}

    def write(self) -> None:
        state = {name: value.clone() for name, value in self.step.state_dict().items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        found = {"losses": self.losses, "gradients": self.gradients, "state": state}
        torch.save(found, self.folder / f"{self.count}-{self.rank}.pt")
        self.losses, self.count = [], self.count + 1


def cti_step(bank_size: int = 2, **method: Any) -> CTIStep:
    return CTIStep(tiny_model(), MethodConfig(bank_size=bank_size, **method), torch.tensor([1.0, 2.0, 3.0]))


def segmentation_step() -> SegmentationStep:
    vit = {"backbone": "vit", "weights": "none", "embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8}
    torch.manual_seed(0)
    return SegmentationStep(build_segmenter(SegmentConfig(**vit, crop_size=32, drop_path=0.0), len(CLASSES)))


def record(fabric: Fabric, jobs: dict[str, _Job]) -> None:
    """Train one after the other in this process; `cti.train.ranks.on_all` calls it in each."""
    for job in jobs.values():
        assert isinstance(job.step, Recorded)
        job.step.rank = fabric.global_rank
        try:
            _fit(fabric, job)
        finally:
            for hook in job.step.hooks:
                hook.remove()
            job.step.hooks = []


def job(step: nn.Module, folder: Path, config: TrainConfig, runtime: RuntimeConfig, dataset: Noise) -> _Job:
    recorded = Recorded(step, folder / "steps")
    return _Job(recorded, dataset, config, folder, parameter_groups(recorded, config), runtime, None, "", False)


class Broken(nn.Module):
    """A step that fails in one process only."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.weight, self.rank = nn.Parameter(torch.ones(2, 2)), rank

    def forward(self, batch: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        if dist.get_rank() == self.rank:
            raise ValueError("the other one cannot go on")
        return {"loss": self.weight.sum() * batch["images"].mean()}
