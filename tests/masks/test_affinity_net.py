import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cti.config import AffinityConfig
from cti.masks.affinity_labels import grid_size, pair_labels, pair_offsets, straight_path
from cti.masks.affinity_net import AffinityNet, affinity_loss, boundary_affinity, embedding_affinity


def inside(y: int, x: int, size: tuple[int, int]) -> bool:
    return 0 <= y < size[0] and 0 <= x < size[1]


def test_boundary_affinity_against_loops():
    boundary = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
    fast = boundary_affinity(boundary, 4)
    for number, offset in enumerate(pair_offsets(4)):
        for y, x in np.ndindex(5, 6):
            way = [(y + dy, x + dx) for dy, dx in straight_path(*offset)]
            expected = 1 - max(boundary[p].item() for p in way) if inside(*way[-1], (5, 6)) else 0
            assert fast[number, y, x].item() == pytest.approx(expected)


def test_embedding_affinity_against_loops():
    embedding = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(0))
    fast = embedding_affinity(embedding, 3)
    for number, (dy, dx) in enumerate(pair_offsets(3)):
        for y, x in np.ndindex(5, 6):
            expected = 0.0
            if inside(y + dy, x + dx, (5, 6)):
                expected = np.exp(-(embedding[:, y, x] - embedding[:, y + dy, x + dx]).abs().mean().item())
            assert fast[number, y, x].item() == pytest.approx(expected, rel=1e-5)


def test_loss_closed_form_and_order():
    pairs = pair_labels(np.array([[0, 0, 1, 1]], dtype=np.uint8), 2)
    half = torch.full(pairs.different.shape, 0.5)
    assert affinity_loss(half, pairs).item() == pytest.approx(np.log(2), rel=1e-3)
    right = torch.where(pairs.different, 0.01, 0.99)
    assert affinity_loss(right, pairs) < affinity_loss(half, pairs) < affinity_loss(1 - right, pairs)
    unsure = pair_labels(np.full((1, 4), 255, dtype=np.uint8), 2)
    assert affinity_loss(half, unsure).item() == 0


@pytest.mark.parametrize("head", ["boundary", "pairwise"])
@pytest.mark.parametrize(("stride", "size"), [(2, (9, 7)), (4, (23, 30)), (8, (24, 30))])
def test_output_lies_on_the_grid(head, stride, size):
    config = AffinityConfig(head=head, stride=stride, channels=16)
    net = AffinityNet(5, config)
    output = net(torch.zeros(3, *size, dtype=torch.uint8), torch.randn(5, 2, 3))
    assert output.shape == ((1 if head == "boundary" else 16), *grid_size(size, stride))
    affinity = net.affinity(output)
    assert affinity.shape == (34, *grid_size(size, stride))
    assert 0 <= affinity.amin() <= affinity.amax() <= 1
    affinity.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_each_kind_of_pair_has_its_share_of_the_loss():
    pairs = pair_labels(np.array([[0, 0, 1, 1], [0, 0, 2, 2], [255, 0, 1, 2]], dtype=np.uint8), 2)
    assert all(kind.any() for kind in (pairs.background, pairs.foreground, pairs.different))
    affinity = 0.9 * pairs.background.float() + 0.8 * pairs.foreground.float() + 0.3 * pairs.different.float()
    expected = -np.log(0.9) / 4 - np.log(0.8) / 4 - np.log(0.7) / 2
    assert affinity_loss(affinity, pairs).item() == pytest.approx(expected, abs=1e-4)
    wrong = affinity_loss(torch.where(pairs.different, 1.0, 0.0), pairs)  # never infinite
    assert wrong.item() == pytest.approx(-np.log(1e-5), rel=1e-3)


@pytest.mark.parametrize(("head", "stride"), [("boundary", 4), ("pairwise", 2)])
def test_the_head_sees_colours_and_features_at_the_grids_points(head, stride):
    config = AffinityConfig(head=head, stride=stride, channels=16)
    net = AffinityNet(5, config)
    image, features = torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8), torch.randn(5, 2, 3)
    rows, columns = grid_size((9, 7), stride)
    y = [min(row, 8) for row in range(rows * stride)]  # the last row and column are repeated
    x = [min(column, 6) for column in range(columns * stride)]
    edges = net.stem((2 * image[:, y][:, :, x].float() / 255 - 1)[None])
    things = F.interpolate(net.project(features[None]), size=(rows, columns), mode="bilinear", align_corners=False)
    expected = net.fuse(torch.cat([edges, things], dim=1))[0]
    torch.testing.assert_close(net(image, features), expected.sigmoid() if head == "boundary" else expected)
    widths = [layer[0].out_channels for layer in net.stem]
    assert widths == {4: [8, 16], 2: [16]}[stride]
    norm = net.project[0](features[None])
    torch.testing.assert_close(norm, (features[None] - features.mean()) / (features.var(correction=0) + 1e-5).sqrt())
