from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cti.config import RuntimeConfig, SegmentConfig, TrainConfig
from cti.data.images import load_image
from cti.data.photos import Photo
from cti.segment.dataset import SegmentationDataset
from cti.segment.inference import Inference
from cti.segment.masks import MaskFolder
from cti.segment.networks import build_segmenter
from cti.segment.predict import predict_mask
from cti.segment.step import SegmentationStep, segmentation_loss
from cti.train.fit import fit


def example() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    masks = torch.randint(0, 4, (2, 5, 6), generator=generator)
    masks[0, :2] = 255
    return logits, masks


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_the_weighted_mean_over_labelled_pixels(weighted: bool) -> None:
    logits, masks = example()
    weights = torch.ones(2, 5, 6, dtype=torch.float64)
    weights[1, 2:, :4] = 3.0
    total = weight = 0.0
    for b in range(2):
        for y in range(5):
            for x in range(6):
                value = int(masks[b, y, x])
                if value != 255:
                    w = float(weights[b, y, x]) if weighted else 1.0
                    total -= w * float(logits[b, :, y, x].log_softmax(0)[value])
                    weight += w
    found = segmentation_loss(logits, masks, weights if weighted else None)
    assert float(found) == pytest.approx(total / weight)


def test_right_answers_cost_less() -> None:
    _, masks = example()
    right = F.one_hot(masks.clamp(max=3), 4).permute(0, 3, 1, 2) * 10.0
    assert segmentation_loss(right, masks) < 0.01 < segmentation_loss(-right, masks)


@pytest.mark.parametrize("weights", [None, torch.full((2, 5, 6), 3.0)], ids=["plain", "weighted"])
def test_nothing_labelled_costs_nothing(weights: Tensor | None) -> None:
    logits, masks = example()
    logits.requires_grad_()
    loss = segmentation_loss(logits, torch.full_like(masks, 255), weights)
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()


def test_an_unlabelled_batch_passes_the_step(tiny: SegmentConfig) -> None:
    step = SegmentationStep(build_segmenter(tiny, 3))
    out = step({"images": torch.randn(1, 3, 32, 32), "masks": torch.full((1, 32, 32), 255)}, epoch=0)
    assert {name: value.item() for name, value in out.items()} == {"loss": 0, "accuracy": 0, "labelled": 0}


@pytest.mark.parametrize("weighted", [False, True])
def test_the_step_counts_labelled_pixels_only(tiny: SegmentConfig, weighted: bool) -> None:
    logits, masks = example()
    network = build_segmenter(tiny, 3)
    network.forward = lambda images: logits.float()  # type: ignore[method-assign]
    batch = {"images": torch.zeros(2, 3, 5, 6), "masks": masks}
    if weighted:
        batch["weights"] = torch.linspace(1, 3, 60).reshape(2, 5, 6)
    found = SegmentationStep(network)(batch, epoch=0)
    expected = segmentation_loss(logits.float(), masks, batch.get("weights"))
    assert float(found["loss"]) == pytest.approx(float(expected), rel=1e-5)
    right = sum(
        int(logits[b, :, y, x].argmax()) == int(masks[b, y, x]) for b in range(2) for y in range(5) for x in range(6)
    )
    assert float(found["accuracy"]) == pytest.approx(right / 48)
    assert float(found["labelled"]) == pytest.approx(48 / 60)


def test_a_loss_that_is_not_finite_is_explained(tiny: SegmentConfig) -> None:
    step = SegmentationStep(build_segmenter(tiny, 3))
    batch = {"images": torch.randn(1, 3, 32, 32), "masks": torch.zeros(1, 32, 32, dtype=torch.long)}
    with pytest.raises(ValueError, match="because the images of this batch are not"):
        step({**batch, "images": batch["images"] * float("nan")}, epoch=0)
    with torch.no_grad():
        step.network.decoder.classify.weight.fill_(1e38)
    with pytest.raises(ValueError, match="the numbers overflowed"):
        step(batch, epoch=0)
    with torch.no_grad():
        step.network.decoder.classify.weight[0] = float("nan")
    with pytest.raises(ValueError, match=r"1 weights have become so \(decoder.classify.weight, ...\)"):
        step(batch, epoch=0)


def test_one_batch_is_learned_by_heart(drawn: tuple[list[Photo], Path], tiny: SegmentConfig) -> None:
    torch.manual_seed(0)
    network = build_segmenter(tiny, 3)
    dataset = SegmentationDataset(drawn[0], MaskFolder(drawn[1], 3), 3, tiny, network.mean, network.std)
    step = SegmentationStep(network)
    items = [dataset[0, index] for index in range(4)]
    batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
    optimiser = torch.optim.AdamW(step.parameters(), lr=3e-3)
    for _ in range(60):
        out = step(batch, epoch=0)
        optimiser.zero_grad()
        out["loss"].backward()
        optimiser.step()
    assert out["accuracy"] > 0.95
    assert step.state_dict().keys() == {f"network.{name}" for name in network.state_dict()}


def test_training_and_predicting_end_to_end(
    drawn: tuple[list[Photo], Path], tiny: SegmentConfig, tmp_path: Path
) -> None:
    photos, folder = drawn
    torch.manual_seed(0)
    network = build_segmenter(tiny, 3)
    masks = MaskFolder(folder, 3)
    dataset = SegmentationDataset(photos, masks, 3, tiny, network.mean, network.std)
    step = SegmentationStep(network)
    config = TrainConfig(
        epochs=40, batch_size=6, lr=1e-3, new_lr_factor=3, warmup_epochs=2, schedule="poly", precision="32"
    )
    fit(step, dataset, config, tmp_path / "run", step.parameter_groups(config), RuntimeConfig(workers=0))
    right = total = 0
    for photo in photos:
        mask = masks(photo)
        right += int((predict_mask(network, load_image(photo.image), Inference()) == mask).sum())
        total += mask.size
    assert right / total > 0.85


@pytest.mark.parametrize("network", ["vit-upsample", "vit-linear", "smp:DeepLabV3Plus:resnet18"])
def test_every_weight_learns_in_every_step(tiny: SegmentConfig, network: str) -> None:
    """Devices wait for each other's gradients, so there must be one, if only of zeros."""
    if network.startswith("smp"):
        pytest.importorskip("segmentation_models_pytorch")
    step = SegmentationStep(build_segmenter(replace(tiny, network=network, frozen_blocks=0), 3))
    batch = {"images": torch.randn(2, 3, 64, 64), "masks": torch.zeros(2, 64, 64, dtype=torch.int64)}
    step(batch, epoch=0)["loss"].backward()
    assert not [name for name, value in step.named_parameters() if value.requires_grad and value.grad is None]


@pytest.mark.parametrize("weighed", [False, True])
def test_the_mean_of_two_processes_losses_is_that_of_the_whole_batch(
    monkeypatch: pytest.MonkeyPatch, tiny: SegmentConfig, weighed: bool
) -> None:
    """Though one of them has many more labelled pixels than the other, or heavier ones."""
    network = build_segmenter(tiny, 2).double()
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 3, (4, 32, 32), generator=generator)
    masks[2:, 4:] = 255
    batch = {"images": torch.randn(4, 3, 32, 32, generator=generator).double(), "masks": masks}
    if weighed:
        batch["weights"] = 1 + 4 * torch.rand(4, 32, 32, generator=generator).double()
    said: list[torch.Tensor] = []
    monkeypatch.setattr("cti.segment.step.sum_of_all", lambda total: (said.append(total), total)[1])
    step = SegmentationStep(network)
    expected = step(batch, 0)
    monkeypatch.setattr("cti.segment.step.together", lambda: 2)
    parts = []
    for half in (slice(0, 2), slice(2, 4)):
        answers = iter(said[:2])
        monkeypatch.setattr("cti.segment.step.sum_of_all", lambda _, answers=answers: next(answers))
        parts.append(step({name: value[half] for name, value in batch.items()}, 0))
    for name, value in expected.items():
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, value, rtol=1e-5, atol=1e-9)
