"""A convolutional patch embedding, for ViTs that are trained from scratch on few images."""

from itertools import pairwise

from torch import nn


def conv_stem(embed_dim: int, patch_size: int) -> nn.Sequential:
    """Patch embedding by 3x3 convolutions of stride 2 instead of one large strided one.

    A ViT's own patch embedding has to learn edges and textures from scratch, for every place in the patch anew; a few
    convolutions learn them from a fraction of the images (Xiao et al., "Early Convolutions Help Transformers See
    Better", 2021).

    Args:
        embed_dim: D.
        patch_size: Side of a patch in pixels, a power of two.

    Returns:
        Images (B, 3, H, W) -> patch embeddings (B, D, H / patch, W / patch).

    Raises:
        ValueError: if the patch is not a power of two.
    """
    if patch_size < 2 or patch_size & (patch_size - 1):
        raise ValueError(f"model.stem conv halves the image again and again; patch_size {patch_size} is no power of 2.")
    stages = patch_size.bit_length() - 1
    widths = [3, *(max(16, embed_dim >> (stages - 1 - stage)) for stage in range(stages))]
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        # GroupNorm, for the step's batch mixes views and passes.
        convolution = nn.Conv2d(width_in, width_out, kernel_size=3, stride=2, padding=1, bias=False)
        layers += [convolution, nn.GroupNorm(1, width_out), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], embed_dim, kernel_size=1))
