"""Segmentation networks behind one interface: plain ViTs with a small decoder, and segmentation-models-pytorch.

    build_segmenter(config, num_classes)(images (B, 3, H, W)) -> logits (B, 1 + C, H, W)

Any H and W will do: a network that wants multiples of its patch pads inside.
"""

import math
import re
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cti.config import SegmentConfig
from cti.method.locator import pool_foreground
from cti.method.vit import PlainViT, middle_block, run_block
from cti.method.weights import build_backbone, read_state_dict

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Segmenter(nn.Module):
    """A network that gives every pixel a logit per class, background first.

    Subclasses implement `padded`.

    Args:
        mean: Mean by which the images are normalised: RGB, of values in [0, 1].
        std: Standard deviation of the normalisation.
        multiple: Height and width are padded to multiples of this many pixels.
    """

    new_parts: tuple[str, ...] = ("decoder.",)  # how the names of parameters begin that are not pre-trained
    patch: int = 1
    """Photos are predicted at multiples of so many pixels: a ViT that has seen whole patches takes the edge of a padded
    one for a thing."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], multiple: int) -> None:
        super().__init__()
        self.mean = mean
        self.std = std
        self.multiple = multiple

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 1 + C, H, W) of normalised images (B, 3, H, W)."""
        return self.see(images)[0]

    def see(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits of pixels as `forward` gives them, and what the images as a whole say of their tags.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            (B, 1 + C, H, W); and (B, C), added to the logit of a class's highest probability where it is asked whether
            the class is there at all, or None for a network that says no more than its pixels.
        """
        height, width = images.shape[-2:]
        # Zero is the mean colour of a normalised image.
        padded = F.pad(images, (0, -width % self.multiple, 0, -height % self.multiple))
        logits, tags = self.padded(padded)
        if logits.shape[-2:] != padded.shape[-2:]:
            logits = F.interpolate(logits, size=padded.shape[-2:], mode="bilinear", align_corners=False)
        return logits[..., :height, :width], tags

    def padded(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """What `see` returns, at any resolution, of images whose sides are multiples of `multiple`."""
        raise NotImplementedError


class ViTSegmenter(Segmenter):
    """The patch tokens of a plain ViT, after its final norm, and a decoder.

    Args:
        encoder: The ViT; its pre-trained CLS token takes part in attention.
        decoder: Module called with the patch tokens as a map (B, D, h, w) and the images (B, 3, H, W).
        frozen_blocks: The first so many blocks, and all that comes before them, keep their weights.
        recompute: Recompute block activations in the backward pass instead of keeping them.
        early_block: 0-based block whose patch tokens, normalised, come before those of the last: 2D features instead
            of D; None = the last alone.

    Raises:
        ValueError: if the ViT has fewer blocks than are to be frozen.
    """

    def __init__(
        self,
        encoder: PlainViT,
        decoder: nn.Module,
        frozen_blocks: int = 0,
        recompute: bool = False,
        early_block: int | None = None,
    ) -> None:
        super().__init__(encoder.mean, encoder.std, encoder.patch_size)
        self.patch = encoder.patch_size
        self.encoder = encoder
        cls, position = encoder.initial_cls
        self.cls_token = nn.Parameter(cls + position)  # (1, 1, D)
        self.decoder = decoder
        self.recompute = recompute
        self.early_block = early_block
        encoder.freeze(frozen_blocks, "segment.frozen_blocks")
        self.cls_token.requires_grad_(frozen_blocks == 0)

    def padded(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, 1 + C, ., .) at the decoder's resolution, and tag logits (B, C) if it has any."""
        features = self.features(images)
        tags = self.decoder.tags(features.flatten(2).transpose(1, 2)) if isinstance(self.decoder, MLPDecoder) else None
        return self.decoder(features, images), tags

    def features(self, images: Tensor) -> Tensor:
        """What the decoder sees of images (B, 3, H, W) whose sides are multiples of the patch: (B, D or 2D, h, w)."""
        patches, grid = self.encoder.embed(images)  # (B, N, D)
        tokens = torch.cat([self.cls_token.expand(images.shape[0], -1, -1), patches], dim=1)
        recompute = self.recompute and torch.is_grad_enabled()
        run = partial(checkpoint, run_block, use_reentrant=False) if recompute else run_block
        found = []
        for number, block in enumerate(self.encoder.blocks):
            tokens, _, _ = run(block, tokens)
            if number == self.early_block:
                found.append(F.layer_norm(tokens, tokens.shape[-1:]))
        found.append(self.encoder.norm(tokens))
        return torch.cat(found, dim=-1)[:, 1:].transpose(1, 2).unflatten(2, grid)


class LinearDecoder(nn.Module):
    """One linear layer per patch; the logits are stretched to pixels bilinearly."""

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(width, num_outputs, kernel_size=1)

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """Logits (B, num_outputs, h, w) of features (B, D, h, w)."""
        logits: Tensor = self.classify(features)
        return logits


class MLPDecoder(nn.Module):
    """Two linear layers per patch, on features that nothing trains; probabilities are stretched to pixels.

    One layer cannot tell the classes apart on features that were not made for them; two can, and see no neighbours, so
    a thing of one patch is not drowned by what is around it (docs/results.md). What is in the photo at all is said
    better by all patches together: a linear head on their mean, each weighing as much as it is not background, which
    is fitted, not trained (`cti.segment.patches.fit_tag_head`), and says nothing before.

    Args:
        width: Number of features of a patch.
        num_outputs: 1 + C.
        hidden: Units between the layers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, num_outputs: int, hidden: int = 256) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.layers = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.2), nn.Linear(hidden, num_outputs)
        )
        self.tag_head = nn.Linear(width, num_outputs - 1).requires_grad_(False)
        nn.init.zeros_(self.tag_head.weight)
        nn.init.zeros_(self.tag_head.bias)

    def pool(self, patches: Tensor) -> Tensor:
        """Mean (..., width) of patches (..., N, width), each weighing as much as it is not background."""
        return pool_foreground(patches.float(), self.classify(patches).float())

    def tags(self, patches: Tensor) -> Tensor:
        """Logits (..., C) of the tags of a photo with patches (..., N, width), in float32."""
        pooled = self.pool(patches)
        with torch.autocast(pooled.device.type, enabled=False):
            logits: Tensor = self.tag_head(pooled)
        return logits

    def classify(self, patches: Tensor) -> Tensor:
        """Logits (..., num_outputs) of patches (..., width)."""
        logits: Tensor = self.layers((patches - self.mean) / self.std)
        return logits

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """Logarithms of probabilities (B, num_outputs, H, W) of features (B, width, h, w) and images (B, 3, H, W)."""
        probabilities = self.classify(features.movedim(1, -1)).float().softmax(dim=-1).movedim(-1, 1)
        stretched = F.interpolate(probabilities, size=images.shape[-2:], mode="bilinear", align_corners=False)
        return stretched.clamp(min=1e-7).log()


class UpsampleDecoder(nn.Module):
    """Doubles the resolution of the patch grid until a cell is about 4 pixels, then adds a shallow look at the image.

    A 14 or 16 pixel patch token knows what is there but hardly where it ends, and 1/4 resolution is where the field's
    decoders stop (DeepLabV3+). The two strided convolutions of `stem` see colour edges at that resolution, which no
    up-sampling of tokens can bring back. The decoder multiplies about an eighth as much as a ViT-S/14.

    Args:
        width: D, width of the patch tokens.
        patch: Patch side in pixels.
        num_outputs: 1 + C.
        channels: Channels of the first level; each further level has half of them.
        stem_channels: Channels of the look at the image.
    """

    def __init__(self, width: int, patch: int, num_outputs: int, channels: int = 128, stem_channels: int = 32) -> None:
        super().__init__()
        num_levels = max(1, round(math.log2(patch / 4)))
        widths = [max(32, channels >> level) for level in range(num_levels)]
        self.reduce = nn.Conv2d(width, widths[0], kernel_size=1)
        self.levels = nn.ModuleList(convolution(a, b) for a, b in zip([widths[0], *widths[:-1]], widths, strict=True))
        self.stem = nn.Sequential(convolution(3, stem_channels, stride=2), convolution(stem_channels, stem_channels, 2))
        self.fuse = convolution(widths[-1] + stem_channels, widths[-1])
        self.classify = nn.Conv2d(widths[-1], num_outputs, kernel_size=1)

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """Logits (B, num_outputs, h * 2^levels, w * 2^levels) of features (B, D, h, w) and images (B, 3, H, W)."""
        x = self.reduce(features)
        for level in self.levels:
            x = level(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
        edges = F.interpolate(self.stem(images), size=x.shape[-2:], mode="bilinear", align_corners=False)
        logits: Tensor = self.classify(self.fuse(torch.cat([x, edges], dim=1)))
        return logits


class SMPSegmenter(Segmenter):
    """A network of segmentation-models-pytorch.

    Args:
        network: The network; its `encoder` is the pre-trained part.
        mean: See `Segmenter`.
        std: See `Segmenter`.
    """

    new_parts = ("network.decoder.", "network.segmentation_head.")

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__(mean, std, multiple=32)  # the encoders' deepest stride, whatever the architecture
        self.network = network

    def padded(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (B, 1 + C, H, W) at the images' size."""
        return self.network(images), None


def build_segmenter(config: SegmentConfig, num_classes: int, recompute: bool = False) -> Segmenter:
    """The network that `config.network` names, its encoder's weights loaded.

    To load a trained segmenter's state, build it with `weights="none"` first.

    Args:
        config: Settings.
        num_classes: C, foreground classes; the network has 1 + C outputs, background first.
        recompute: Recompute the ViT's block activations in the backward pass (`segment.train.recompute`).

    Raises:
        ValueError: for an unknown backbone, architecture or weights, or for `smp:` without its package.
    """
    num_outputs = 1 + num_classes
    if config.network.startswith("smp:"):
        return _build_smp(config, num_outputs)
    encoder = build_backbone(config, _image_size(config))
    width = encoder.embed_dim
    if config.network == "vit-mlp":
        depth = len(encoder.blocks)
        return ViTSegmenter(encoder, MLPDecoder(2 * width, num_outputs), depth, early_block=middle_block(depth))
    decoder = (
        LinearDecoder(width, num_outputs)
        if config.network == "vit-linear"
        else UpsampleDecoder(width, encoder.patch_size, num_outputs)
    )
    return ViTSegmenter(encoder, decoder, config.frozen_blocks, recompute)


@torch.no_grad()
def start_from(network: Segmenter, encoder: PlainViT, token: Tensor) -> None:
    """Give a segmenter's ViT the weights of another one of the same geometry.

    Args:
        network: A `ViTSegmenter`.
        encoder: The other ViT; its position embedding is resized to the network's grid.
        token: (1, 1, D) what takes the CLS token's part, its position included.

    Raises:
        ValueError: if the two ViTs are not of the same geometry.
    """
    assert isinstance(network, ViTSegmenter)  # `SegmentConfig` refuses the weights `run` for others
    side = math.isqrt(network.encoder.pos_embed.shape[1])
    state = {**encoder.state_dict(), "pos_embed": encoder.positions((side, side))}
    try:
        network.encoder.load_state_dict(state)
        network.cls_token.copy_(token)
    except RuntimeError as error:
        raise ValueError(
            "The segmenter's ViT and the one it is to start from are not of one geometry; give it the same backbone."
        ) from error


@dataclass(frozen=True)
class NetworkDescription:
    """Which network, from which weights, how large.

    Args:
        network: `segment.network`.
        backbone: Name of its encoder.
        weights: Where the encoder's weights came from.
        parameters: Number of parameters.
        trained_parameters: Number of those that are trained.
    """

    network: str
    backbone: str
    weights: str
    parameters: int
    trained_parameters: int


def describe(network: Segmenter, config: SegmentConfig) -> NetworkDescription:
    """Describe a network for its stage's result."""
    parameters = list(network.parameters())
    return NetworkDescription(
        config.network,
        config.network.split(":")[2] if config.network.startswith("smp:") else config.backbone,
        config.weights,
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
    )


def convolution(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, group norm (batches are small, so no batch norm), GELU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.GroupNorm(8, channels_out),
        nn.GELU(),
    )


def _image_size(config: SegmentConfig) -> int:
    """The size to which crops are padded."""
    named = re.search(r"patch(\d+)", config.backbone)
    patch = int(named[1]) if named else config.patch_size
    return math.ceil(config.crop_size / patch) * patch


def _build_smp(config: SegmentConfig, num_outputs: int) -> SMPSegmenter:
    try:
        import segmentation_models_pytorch as smp
    except ImportError as error:
        raise ValueError(
            f"segment.network '{config.network}' needs segmentation-models-pytorch: pip install \"cti[smp]\"."
        ) from error
    if config.frozen_blocks:
        raise ValueError("segment.frozen_blocks counts the blocks of a ViT; set it to 0 for an smp: network.")
    _, architecture, encoder = config.network.split(":")
    file = config.weights if config.weights.endswith((".safetensors", ".pth", ".pt")) else None
    named = {"timm": "imagenet", "none": None}.get(config.weights, config.weights) if file is None else None
    try:
        network = smp.create_model(architecture, encoder_name=encoder, encoder_weights=named, classes=num_outputs)
        if file is not None:
            network.encoder.load_state_dict(read_state_dict(file))
        facts = smp.encoders.get_preprocessing_params(encoder, pretrained=named) if named else {}
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"Cannot build {config.network} with weights '{config.weights}': {error}") from error
    return SMPSegmenter(network, tuple(facts.get("mean") or IMAGENET_MEAN), tuple(facts.get("std") or IMAGENET_STD))
