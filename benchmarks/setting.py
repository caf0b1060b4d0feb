"""What is measured, fixed once, and its small version for a try."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """The fixed setting: DeiT-S/16 geometry with random weights, VOC's number of classes, all losses on.

    Args:
        backbone: Name of the backbone.
        embed_dim: Width of `vit`; other backbones have their own. Likewise `depth` and `num_heads`.
        num_classes: C.
        image_size: Side of a training crop in pixels.
        batch: Photos per training step.
        photo: (H, W) of a photo whose seeds are extracted.
        long_side: Size at which our recipe extracts seeds (`voc12-animals`).
        photos: Photos per extraction; the default of `runtime.batch_size`.
        scored: Photos scored at all thresholds.
        grid: (h, w) of the grid on which scores walk.
        repeats: Turns that count; each contender has one more to warm up.
        threads: Threads of every contender.
    """

    backbone: str = "deit_small_patch16_224"
    embed_dim: int = 384
    depth: int = 12
    num_heads: int = 6
    patch_size: int = 16
    infusion_index: int = 3
    num_classes: int = 20
    image_size: int = 224
    batch: int = 16
    photo: tuple[int, int] = (375, 500)
    long_side: int = 336
    photos: int = 8
    scored: int = 437
    grid: tuple[int, int] = (47, 63)
    repeats: int = 3
    threads: int = 2

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the C classes."""
        return tuple(f"class {number}" for number in range(self.num_classes))


SMALL = Setting(
    backbone="vit", embed_dim=64, depth=3, num_heads=2, infusion_index=0, num_classes=4, image_size=64, batch=2,
    photo=(60, 80), long_side=56, photos=2, scored=8, grid=(6, 8), repeats=2,
)  # fmt: skip
