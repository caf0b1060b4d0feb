"""The head that says which neighbouring grid points belong to the same thing.

A frozen ViT knows what is where, but only every 14 or 16 pixels; the edge between two things is seen in the photo.
So the ViT's patch features are projected and *up-sampled* to the grid, and a small *image branch* of strided
convolutions brings the photo's edges to the same grid. The alternative, a patch embedding with a smaller stride, gives
features as fine but costs (14/4)^4 times the attention, over 100 times here, and was refused for that.

From IRNet (Ahn, Cho & Kwak 2019): the class boundary map, affinity as one minus the largest boundary on the way, the
balance of the loss. From PSA (Ahn & Kwak 2018): affinity from distances of an embedding. Not used: IRNet's
displacement field (it separates instances), and both papers' fine-tuned ResNet.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cti.config import AffinityConfig
from cti.masks.affinity_labels import PairLabels, grid_size, pair_offsets, partners, straight_path


class AffinityNet(nn.Module):
    """Boundary map or embedding on the grid, from frozen features and the photo.

    Args:
        num_features: D of the backbone's features.
        config: `head`, `stride`, `radius`, `channels`.
    """

    def __init__(self, num_features: int, config: AffinityConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels
        self.project = nn.Sequential(nn.GroupNorm(1, num_features), nn.Conv2d(num_features, width, 1))
        # 4x4 kernels of stride 2 keep output points in the middle of their blocks, where up-sampling puts them too.
        stages = config.stride.bit_length() - 1
        widths = [3] + [max(8, width >> (stages - 1 - stage)) for stage in range(stages)]
        self.stem = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(widths[stage], widths[stage + 1], 4, stride=2, padding=1), nn.ReLU())
                for stage in range(stages)
            )
        )
        self.fuse = nn.Sequential(
            nn.Conv2d(width + widths[-1], width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 1 if config.head == "boundary" else width, 1),
        )

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        """Run the head on one photo.

        Args:
            image: (3, H, W) uint8 RGB.
            features: (D, h', w') float32 patch features of the whole photo.

        Returns:
            (h, w) grid, h = ceil(H / stride): boundary in [0, 1], (1, h, w); or the embedding, (channels, h, w).
        """
        size = (image.shape[-2], image.shape[-1])
        rows, columns = grid_size(size, self.config.stride)
        below, right = rows * self.config.stride - size[0], columns * self.config.stride - size[1]
        pixels = F.pad(image[None].float() / 127.5 - 1, (0, right, 0, below), mode="replicate")
        edges = self.stem(pixels)
        things = F.interpolate(self.project(features[None]), size=(rows, columns), mode="bilinear")
        output: Tensor = self.fuse(torch.cat([edges, things], dim=1))[0]
        return output.sigmoid() if self.config.head == "boundary" else output

    def affinity(self, output: Tensor) -> Tensor:
        """Affinity of every pair, from `forward`'s output: (o, h, w) in [0, 1], 0 where the partner lies outside."""
        if self.config.head == "boundary":
            return boundary_affinity(output[0], self.config.radius)
        return embedding_affinity(output, self.config.radius)


def boundary_affinity(boundary: Tensor, radius: int) -> Tensor:
    """One minus the largest boundary on the straight way between two points, both ends included (IRNet, eq. 3).

    Args:
        boundary: (h, w) in [0, 1].
        radius: Partners closer than this.

    Returns:
        (o, h, w) in [0, 1] for the offsets of `pair_offsets(radius)`; 0 where the partner lies outside.
    """
    offsets = pair_offsets(radius)
    points = sorted({point for offset in offsets for point in straight_path(*offset)})
    views = dict(zip(points, partners(boundary, points, 1.0), strict=True))
    ways = [torch.stack([views[point] for point in straight_path(*offset)]).amax(dim=0) for offset in offsets]
    return 1 - torch.stack(ways)


def embedding_affinity(embedding: Tensor, radius: int) -> Tensor:
    """`exp(-mean |difference|)` of two points' embeddings (PSA, eq. 1).

    Args:
        embedding: (E, h, w).
        radius: Partners closer than this.

    Returns:
        (o, h, w) in [0, 1] for the offsets of `pair_offsets(radius)`; 0 where the partner lies outside.
    """
    offsets = pair_offsets(radius)
    others = partners(embedding, offsets, 0.0)
    inside = torch.stack(partners(torch.ones_like(embedding[0]), offsets, 0.0))
    distances = torch.stack([(embedding - other).abs().mean(dim=0) for other in others])
    return (-distances).exp() * inside


def affinity_loss(affinity: Tensor, pairs: PairLabels) -> Tensor:
    """Cross-entropy over known pairs: a quarter background, a quarter foreground, half different (IRNet, eq. 6).

    Args:
        affinity: (o, h, w) in [0, 1].
        pairs: What is known of them; a kind of pair that does not occur counts 0.

    Returns:
        A scalar, 0 or more.
    """
    together, apart = -(affinity + 1e-5).log(), -(1 - affinity + 1e-5).log()

    def mean(values: Tensor, chosen: Tensor) -> Tensor:
        return (values * chosen).sum() / chosen.sum().clamp_min(1)

    loss = mean(together, pairs.background) / 4 + mean(together, pairs.foreground) / 4
    return loss + mean(apart, pairs.different) / 2
