"""The losses, each in three ways: what a loop over pixels says, what it should prefer, and a case worked out by hand.

Start here to see what each loss wants. Maps are (B, channels, h, w), labels (B, C).
"""

import math

import pytest
import torch
from torch import Tensor

from cti.method.attention import max_norm
from cti.method.losses import background_loss, classification_loss, cross_image_loss, intra_image_loss

EPS = 1e-5
TAGS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], dtype=torch.float64)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stretched(maps: Tensor) -> list[list[list[list[float]]]]:
    """`max_norm` pixel by pixel: every map from its own minimum to its own maximum."""
    result = []
    for image in maps.tolist():
        result.append([])
        for channel in image:
            values = [[max(value, 0.0) for value in row] for row in channel]
            low, high = min(map(min, values)), max(map(max, values))
            result[-1].append([[max(v - low - EPS, 0.0) / (high - low + EPS) for v in row] for row in values])
    return result


def mean_distance(first: Tensor, second: Tensor) -> float:
    """Mean |a - b| of two stacks of maps, each brought to [0, 1]."""
    total = count = 0.0
    for image, other in zip(stretched(first), stretched(second), strict=True):
        for channel, other_channel in zip(image, other, strict=True):
            for row, other_row in zip(channel, other_channel, strict=True):
                for a, b in zip(row, other_row, strict=True):
                    total, count = total + abs(a - b), count + 1
    return total / count


def square(y: int, x: int, height: float = 1.0) -> Tensor:
    """A map (1, 1, 4, 4) that is `height` on 2 x 2 pixels from (y, x) on and 0 elsewhere."""
    maps = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    maps[..., y : y + 2, x : x + 2] = height
    return maps


# max_norm: what all losses of maps look through


def test_max_norm_by_loop() -> None:
    maps = noise(2, 3, 4, 5)
    torch.testing.assert_close(max_norm(maps), torch.tensor(stretched(maps), dtype=torch.float64))


def test_max_norm_by_hand() -> None:
    """Below zero is zero; the smallest value becomes 0, the largest nearly 1; a flat map says nothing: all 0."""
    maps = torch.tensor([[[[-3.0, 0.0], [1.0, 4.0]]], [[[2.0, 2.0], [2.0, 2.0]]]], dtype=torch.float64)
    expected = torch.tensor([[0, 0], [(1 - EPS) / (4 + EPS), (4 - EPS) / (4 + EPS)]], dtype=torch.float64)
    torch.testing.assert_close(max_norm(maps)[0, 0], expected, rtol=1e-12, atol=0)
    assert (max_norm(maps)[1] == 0).all()


def test_max_norm_knows_no_strength_only_shape() -> None:
    maps = noise(2, 3, 4, 5).relu()
    torch.testing.assert_close(max_norm(7 * maps), max_norm(maps), rtol=0, atol=1e-3)


# Classification: the tags must be predicted


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 5.0)])
def test_classification_by_loop(weights: tuple[float, ...] | None) -> None:
    logits, total = noise(2, 3), 0.0
    for b in range(2):
        for c in range(3):
            probability = 1 / (1 + math.exp(-logits[b, c].item()))
            if TAGS[b, c]:
                total -= math.log(probability) * (weights[c] if weights else 1.0)
            else:
                total -= math.log(1 - probability)
    given = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    assert classification_loss(logits, TAGS, given).item() == pytest.approx(total / 6, rel=1e-12)


def test_classification_prefers_right_tags() -> None:
    right = 4 * (2 * TAGS - 1)
    assert classification_loss(right, TAGS) < classification_loss(0 * right, TAGS) < classification_loss(-right, TAGS)


def test_classification_by_hand() -> None:
    """Who knows nothing pays log 2 per class; a missed tag of logit -x costs nearly x."""
    assert classification_loss(torch.zeros(2, 3), TAGS).item() == pytest.approx(math.log(2))
    missed = classification_loss(torch.tensor([[-20.0]]), torch.ones(1, 1))
    assert missed.item() == pytest.approx(20.0, rel=1e-6)
    three_times = classification_loss(torch.tensor([[-20.0]]), torch.ones(1, 1), torch.tensor([3.0]))
    assert three_times.item() == pytest.approx(60.0, rel=1e-6)
    assert classification_loss(torch.tensor([[-20.0]]), torch.zeros(1, 1)).item() == pytest.approx(0, abs=1e-8)
    assert classification_loss(torch.zeros(2, 3), TAGS.bool()).item() == pytest.approx(math.log(2))


# Background: it is where no tagged class is


def test_background_by_loop() -> None:
    foreground, background = noise(2, 1, 4, 5), noise(2, 1, 4, 5, seed=1)
    fg, bg, total = stretched(foreground), stretched(background), 0.0
    for b in range(2):
        for y in range(4):
            for x in range(5):
                total += abs((1 - fg[b][0][y][x]) - bg[b][0][y][x])
    assert background_loss(foreground, background).item() == pytest.approx(total / 40, rel=1e-12)


def test_background_prefers_what_the_foreground_leaves() -> None:
    thing = square(0, 0)
    rest, half_right, same = 1 - thing, square(2, 2), thing
    losses = [background_loss(thing, background).item() for background in (rest, half_right, same)]
    assert losses == sorted(losses)
    assert losses[0] < 1e-4


def test_background_by_hand() -> None:
    """A thing of 4 of 16 pixels: with no background at all the other 12 are wrong; claimed by both, all 16 are."""
    thing = square(0, 0)
    assert background_loss(thing, torch.zeros_like(thing)).item() == pytest.approx(12 / 16, abs=1e-4)
    assert background_loss(thing, thing).item() == pytest.approx(1.0, abs=1e-4)
    assert background_loss(thing, square(2, 2)).item() == pytest.approx(8 / 16, abs=1e-4)  # claimed by neither


def test_background_teaches_both_maps() -> None:
    foreground, background = noise(1, 1, 4, 4).requires_grad_(), noise(1, 1, 4, 4, seed=1).requires_grad_()
    background_loss(foreground, background).backward()
    assert foreground.grad is not None
    assert background.grad is not None
    assert foreground.grad.any()
    assert background.grad.any()


# Intra-image infusion: another view's tokens find the same things


def test_intra_by_loop() -> None:
    maps, infused = noise(2, 4, 3, 5), noise(2, 4, 3, 5, seed=1)
    assert intra_image_loss(maps, infused).item() == pytest.approx(mean_distance(maps, infused), rel=1e-12)


def test_intra_prefers_maps_that_stay() -> None:
    thing = square(0, 0)
    losses = [intra_image_loss(thing, square(0, x)).item() for x in (0, 1, 2)]
    assert losses == sorted(losses)
    assert losses[0] == 0


def test_intra_by_hand() -> None:
    """A 2 x 2 thing that moves away leaves 4 pixels and takes 4 new ones, of 16; that it got fainter is no loss."""
    assert intra_image_loss(square(0, 0), square(2, 2)).item() == pytest.approx(8 / 16, abs=1e-4)
    assert intra_image_loss(square(0, 0), square(0, 0, height=0.1)).item() == pytest.approx(0, abs=1e-3)


def test_intra_teaches_both_passes() -> None:
    maps, infused = noise(1, 2, 4, 4).requires_grad_(), noise(1, 2, 4, 4, seed=1).requires_grad_()
    intra_image_loss(maps, infused).backward()
    assert maps.grad is not None
    assert infused.grad is not None
    assert maps.grad.any()
    assert infused.grad.any()


# Cross-image infusion: other photos' tokens find the class here, too


def test_cross_by_loop() -> None:
    maps, fused = noise(2, 3, 4, 5), noise(2, 3, 4, 5, seed=1)
    assert cross_image_loss(maps, fused).item() == pytest.approx(mean_distance(maps, fused), rel=1e-12)


def test_cross_by_loop_over_the_channels_that_count() -> None:
    maps, fused = noise(2, 3, 4, 5), noise(2, 3, 4, 5, seed=1)
    counted = torch.tensor([[True, False, True], [False, False, True]])
    distances = [
        mean_distance(maps[b : b + 1, c : c + 1], fused[b : b + 1, c : c + 1]) for b, c in counted.nonzero().tolist()
    ]
    assert len(distances) == 3
    assert cross_image_loss(maps, fused, counted).item() == pytest.approx(sum(distances) / 3, rel=1e-12)


def test_cross_prefers_the_same_place() -> None:
    thing = square(0, 0)
    losses = [cross_image_loss(thing, square(0, x)).item() for x in (0, 1, 2)]
    assert losses == sorted(losses)
    assert losses[0] == 0


def test_cross_by_hand() -> None:
    """Two channels, one of them off by 8 of 16 pixels: a quarter; a half if only that one counts; 0 if none does."""
    maps = torch.cat([square(0, 0), square(0, 0)], dim=1)
    fused = torch.cat([square(0, 0), square(2, 2)], dim=1)
    for counted, expected in ((None, 1 / 4), ([[1, 1]], 1 / 4), ([[0, 1]], 1 / 2), ([[1, 0]], 0), ([[0, 0]], 0)):
        given = None if counted is None else torch.tensor(counted)
        assert cross_image_loss(maps, fused, given).item() == pytest.approx(expected, abs=1e-4), counted
