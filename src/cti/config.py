"""Every setting of every stage: frozen dataclasses, checked when they are made, read from YAML and the command line.

No field is read from anywhere else; the resolved whole is written beside each result as `config.yaml`.
"""

from dataclasses import dataclass, field
from typing import Literal


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class DataConfig:
    """Where the photos are and what is read from them.

    Args:
        root: Data folder; the environment variable CTI_DATA when empty.
        format: Reader; `auto` looks at what lies in the folder. `shapes` renders its own photos into `root`.
        classes: Class names to use, in this order; empty: `classes.txt` in the root, else what the tags name.
        labels: Tags file relative to the root, of any form (CSV, JSON, JSON lines, exports of Label Studio and CVAT);
            empty: `labels.csv` or another one that is there, else a text file beside each photo, else sub-folders.
        image_column: Heading of the column of the tags file that names the photos; empty: found.
        tags_column: Heading of the column of the tags file that holds the tags; empty: found.
        normal: Tags or sub-folders of own photos that say that none of the classes is there (unless `classes` or
            `classes.txt` names them).
        images: Folder of photos relative to the root; empty: the reader's own (VOC: JPEGImages).
        masks: Folder of masks relative to the root, for scoring only; empty: the reader's own.
        train: Name of the list of photos to train on (VOC: ImageSets/Segmentation/NAME.txt; COCO: train2014).
        score: List on which seeds and pseudo-masks are scored (usually part of `train`).
        val: List of photos never trained on.
        val_fraction: Without lists, the share of photos held out as `val`, drawn by `split_seed`.
        split_seed: Seed of that draw.
        empty_tags: What to do with photos without a tag of the classes: `skip` leaves them out, `negative` trains on
            them as photos of none of the classes; `auto` does so where a tags file lists a photo without any tag.
        max_broken: Share of unreadable photos above which training stops.
        max_pixels: Photos with more pixels than this are refused by name (decompression bombs).
    """

    root: str = ""
    format: Literal["auto", "voc", "coco", "folder", "shapes"] = "auto"
    classes: tuple[str, ...] = ()
    labels: str = ""
    image_column: str = ""
    tags_column: str = ""
    normal: tuple[str, ...] = (
        "good", "ok", "normal", "free", "none", "clean", "healthy", "negative", "nothing", "background", "no defect",
        "defect free",
    )  # fmt: skip
    images: str = ""
    masks: str = ""
    train: str = "train"
    score: str = "train"
    val: str = "val"
    val_fraction: float = 0.1
    split_seed: int = 0
    empty_tags: Literal["auto", "skip", "negative"] = "auto"
    max_broken: float = 0.01
    max_pixels: int = 100_000_000

    def __post_init__(self) -> None:
        _check(0 <= self.val_fraction < 1, f"data.val_fraction is {self.val_fraction}; give 0 <= x < 1.")
        _check(0 <= self.max_broken <= 1, f"data.max_broken is {self.max_broken}; give a share from 0 to 1.")
        _check(self.max_pixels > 0, f"data.max_pixels is {self.max_pixels}; give a positive number of pixels.")


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Args:
        backbone: Name of a plain ViT of timm, e.g. `deit_small_patch16_224`, `vit_small_patch14_dinov2`.
        weights: `timm` (downloaded from the hub), `none` (from scratch), or the path of a .safetensors / .pth file.
        image_size: Side of a training crop in pixels; a multiple of the backbone's patch.
        early_size: Side of a training crop in the first `early_epochs`: smaller crops teach the tags several times as
            fast. 0 = `image_size` from the start.
        early_epochs: Epochs of small crops.
        infusion_index: 0-based block whose output class tokens are infused into the next block's input.
        background: `token` = the method; `cam` = a background channel without a token; `none` = neither.
        final_norm: Layer-norm the patch tokens before the patch head; `auto` = where the backbone has layer scale.
        drop_path: Stochastic depth rate of the last block (grows linearly from 0).
        embed_dim: Width, for a backbone built from scratch (`backbone: vit`) only.
        depth: Number of blocks, likewise.
        num_heads: Attention heads, likewise.
        patch_size: Patch side in pixels, likewise.
        stem: Patch embedding, likewise: `patch` = the ViT's own; `conv` = a few convolutions, which learn from fewer
            images.
    """

    backbone: str = "deit_small_patch16_224"
    weights: str = "timm"
    image_size: int = 224
    early_size: int = 0
    early_epochs: int = 0
    infusion_index: int = 3
    background: Literal["none", "cam", "token"] = "token"
    final_norm: Literal["auto", "on", "off"] = "auto"
    drop_path: float = 0.1
    embed_dim: int = 192
    depth: int = 6
    num_heads: int = 3
    patch_size: int = 8
    stem: Literal["patch", "conv"] = "patch"

    def __post_init__(self) -> None:
        _check(self.image_size > 0, f"model.image_size is {self.image_size}; give a positive number of pixels.")
        for name in ("early_size", "early_epochs"):
            _check(getattr(self, name) >= 0, f"model.{name} is {getattr(self, name)}; give 0 or more.")
        _check(self.infusion_index >= 0, f"model.infusion_index is {self.infusion_index}; blocks count from 0.")
        _check(0 <= self.drop_path < 1, f"model.drop_path is {self.drop_path}; give 0 <= x < 1.")


@dataclass(frozen=True)
class MethodConfig:
    """The losses of the step (paper section 3; docs/method.md).

    Args:
        background_weight: Weight of the background loss; 0 switches it off.
        intra_weight: Weight of intra-image infusion; 0 switches its pass off.
        cross_weight: Weight of cross-image infusion; 0 switches its pass off.
        start_epoch: Epoch (0-based) from which these three losses count; before it only tags are learned.
        bank_size: Class tokens kept per class for cross-image infusion.
        gate: `all` = the cross loss waits until every class has `bank_size` tokens; `per_class` = class by class.
        detach_patch_maps_in_background: Stop the background loss's gradient at the patch maps (COCO).
        attention_blocks: The last so many blocks give class-to-patch attention to the background loss.
        positive_weight: Power p of the weight (negatives/positives)^p of a class's positive tags; 0 = the paper's
            unweighted loss, above 0 lifts rare classes.
        crop_scale: Smallest and largest area of a training view, as a share of the photo's. Small views of photos with
            several small objects often lose what the tags name; raise the first number there.
    """

    background_weight: float = 0.1
    intra_weight: float = 1.0
    cross_weight: float = 1.0
    start_epoch: int = 0
    bank_size: int = 30
    gate: Literal["all", "per_class"] = "all"
    detach_patch_maps_in_background: bool = False
    attention_blocks: int = 6
    positive_weight: float = 0.0
    crop_scale: tuple[float, float] = (0.3, 1.2)

    def __post_init__(self) -> None:
        for name in ("background_weight", "intra_weight", "cross_weight", "positive_weight"):
            _check(getattr(self, name) >= 0, f"method.{name} is {getattr(self, name)}; give 0 or more.")
        low, high = self.crop_scale
        _check(0 < low <= high, f"method.crop_scale is {self.crop_scale}; give 0 < smallest <= largest.")
        _check(self.bank_size > 0, f"method.bank_size is {self.bank_size}; give 1 or more.")
        _check(self.attention_blocks > 0, f"method.attention_blocks is {self.attention_blocks}; give 1 or more.")


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation, shared by CTI and the segmenter.

    Args:
        epochs: Passes over the training photos; 0 = by their number (`cti.train.optimiser.epochs_by_size`).
        batch_size: Photos per step and device.
        lr: Peak learning rate of the pre-trained parts.
        new_lr_factor: Multiplier of `lr` for newly initialised parts.
        weight_decay: AdamW weight decay.
        warmup_epochs: Epochs of linear warm-up from `warmup_lr`.
        warmup_lr: Learning rate at the start of the warm-up.
        min_lr: Floor of the schedule.
        schedule: Shape after the warm-up.
        schedule_per: Whether the schedule moves every step or (as the released code does) every epoch.
        clip: Largest gradient norm; 0 = no clipping.
        accumulate: Steps whose gradients are averaged before an update.
        precision: `auto` = bf16 where the processor is quick at it, else float32.
        recompute: Recompute block activations in the backward pass: half the memory for about a quarter more time.
        seed: Seed of everything drawn at random.
        workers: Processes that load photos; -1 = one per core.
        checkpoint_every: Steps between checkpoints within an epoch; 0 = at the end of epochs only.
        devices: Number of devices (Fabric); `auto` = all.
        accelerator: Fabric accelerator.
    """

    epochs: int = 60
    batch_size: int = 64
    lr: float = 6.25e-5
    new_lr_factor: float = 1.0
    weight_decay: float = 0.05
    warmup_epochs: float = 5
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    schedule: Literal["cosine", "poly"] = "cosine"
    schedule_per: Literal["step", "epoch"] = "step"
    clip: float = 0.0
    accumulate: int = 1
    precision: Literal["auto", "32", "bf16", "16", "64"] = "auto"
    recompute: bool = False
    seed: int = 0
    workers: int = -1
    checkpoint_every: int = 200
    devices: int | str = "auto"
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        _check(self.epochs >= 0, f"epochs is {self.epochs}; give 1 or more, or 0 for by the number of photos.")
        for name in ("batch_size", "accumulate"):
            _check(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; give 1 or more.")
        for name in ("lr", "new_lr_factor"):
            _check(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; give a positive number.")
        for name in ("weight_decay", "warmup_epochs", "warmup_lr", "min_lr", "clip"):
            _check(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; give 0 or more.")
        _check(self.workers >= -1, f"workers is {self.workers}; give -1 (one per core) or a count.")


@dataclass(frozen=True)
class SeedsConfig:
    """How class activation maps are extracted.

    Args:
        scales: Sizes relative to the photo's own; several are summed.
        long_side: Photos are resized to this longest side first; 0 = own size.
        flip: Add the mirrored photo's maps.
        blocks: The last so many blocks of attention to use; 0 = all of them (the method).
        kinds: Kinds of maps to keep, so that they can be scored side by side; the first one is the seed that later
            stages use: refined (the method), fused, patch (patch maps) or attention (class-to-patch).
        batch_size: Photos of one size per forward pass.
        precision: `auto` = bf16 where the processor is quick at it, else float32; maps are computed in float32 anyway.
        lists: Lists of photos to extract seeds for.
        predicted_tags: Lists for which seeds are also made from predicted instead of given tags, for comparison with
            a segmenter, which sees no tags.
    """

    scales: tuple[float, ...] = (1.0,)
    long_side: int = 0
    flip: bool = True
    blocks: int = 0
    kinds: tuple[Literal["refined", "fused", "patch", "attention"], ...] = ("refined", "fused", "patch")
    batch_size: int = 8
    precision: Literal["auto", "32", "bf16"] = "auto"
    lists: tuple[Literal["train", "score", "val"], ...] = ("train", "score", "val")
    predicted_tags: tuple[Literal["train", "score", "val"], ...] = ()

    def __post_init__(self) -> None:
        _check(
            bool(self.scales) and min(self.scales) > 0,
            f"seeds.scales is {self.scales}; give positive numbers.",
        )
        _check(
            self.long_side >= 0,
            f"seeds.long_side is {self.long_side}; give 0 (own size) or a side in pixels.",
        )
        _check(self.blocks >= 0, f"seeds.blocks is {self.blocks}; give 0 (all) or a number of blocks.")


@dataclass(frozen=True)
class ScoreConfig:
    """How seeds are scored.

    Args:
        threshold: Fixed background score, chosen without looking at masks.
        bootstrap: Resamples for confidence intervals; 0 = none.
    """

    threshold: float = 0.25
    bootstrap: int = 0

    def __post_init__(self) -> None:
        _check(0 <= self.threshold <= 1, f"score.threshold is {self.threshold}; give a number from 0 to 1.")


@dataclass(frozen=True)
class SegmentConfig:
    """The segmentation network: what it is, what it learns from and how it predicts.

    Args:
        network: `vit-upsample` (plain ViT and a small up-sampling decoder), `vit-linear` (plain ViT and one linear
            layer) or `smp:ARCHITECTURE:ENCODER` of segmentation-models-pytorch, e.g. `smp:DeepLabV3Plus:resnet101`.
        backbone: Name of a plain ViT of timm, or `vit` to build one from the four sizes below; not used by `smp:`.
        weights: `timm` (downloaded from the hub), `none` (from scratch), or the path of a .safetensors / .pth file. For
            `smp:` also a name of that encoder's weights; `timm` then means `imagenet`. `run` = the ViT of the run's
            trained CTI network, whatever `backbone` says: it knows the classes already.
        masks: Folder of masks to learn from, `<photo id>.png`; empty: the run's pseudo-masks; `real`: the data set's
            own, for the fully supervised upper bound.
        crop_size: Side of a training crop in pixels.
        long_side: Photos are resized to this longest side first, in training and prediction; 0 = own size.
        scale_range: Training photos are scaled by a factor drawn (log-uniformly) from this range.
        jitter: Strength of the change of brightness, contrast and saturation in training; hue changes by a fifth of it.
        balance: Class weights of the loss: none, 1/sqrt(frequency) or median frequency / frequency.
        frozen_blocks: The first so many blocks of the ViT (and its patch embedding) keep their weights. They
            then need no backward pass: freezing half of the blocks makes a training step about a third cheaper, and
            is worth trying when photos are few. 0 trains everything.
        drop_path: Stochastic depth rate of the ViT's last block (grows linearly from 0).
        embed_dim: Width, for `backbone: vit` only.
        depth: Number of blocks, likewise.
        num_heads: Attention heads, likewise.
        patch_size: Patch side in pixels, likewise.
        stem: Patch embedding, likewise.
        scales: Sizes at prediction, relative to `long_side` (or the photo's own); probabilities are averaged.
        flip: Average with the prediction of the mirrored photo.
        window: Larger photos are predicted window by window of this side in pixels; 0 = always whole.
        stride: Distance between windows in pixels; 0 = two thirds of the window.
        crf: Dense CRF on the predicted probabilities, by the settings of this name.
        variants: Ways to predict, each scored on its own, the first one being the result: `single` = one scale,
            `multi-scale` = `multi_scales`, `+crf` = the same and dense CRF (`crf`).
        multi_scales: Scales of the `multi-scale` variants.
        lists: Lists of photos to predict.
    """

    network: str = "vit-upsample"
    backbone: str = "deit_small_patch16_224"
    weights: str = "timm"
    masks: str = ""
    crop_size: int = 224
    long_side: int = 0
    scale_range: tuple[float, float] = (0.5, 2.0)
    jitter: float = 0.4
    balance: Literal["none", "inverse_sqrt", "median"] = "none"
    frozen_blocks: int = 0
    drop_path: float = 0.1
    embed_dim: int = 192
    depth: int = 6
    num_heads: int = 3
    patch_size: int = 8
    stem: Literal["patch", "conv"] = "patch"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = True
    window: int = 512
    stride: int = 0
    crf: Literal["none", "psa", "irn"] = "none"
    variants: tuple[Literal["single", "multi-scale", "single+crf", "multi-scale+crf"], ...] = ("single",)
    multi_scales: tuple[float, ...] = (0.75, 1.0, 1.25)
    lists: tuple[Literal["train", "score", "val"], ...] = ("score", "val")

    def __post_init__(self) -> None:
        smp = self.network.startswith("smp:") and self.network.count(":") == 2
        _check(
            self.network in ("vit-upsample", "vit-linear") or smp,
            f"segment.network is '{self.network}'; give vit-upsample, vit-linear or smp:ARCHITECTURE:ENCODER.",
        )
        _check(
            not (smp and self.weights == "run"),
            "segment.weights is 'run', which an smp: network cannot take; give other weights.",
        )
        low, high = self.scale_range
        _check(0 < low <= high, f"segment.scale_range is {self.scale_range}; give 0 < smallest <= largest.")
        _check(0 <= self.jitter < 1, f"segment.jitter is {self.jitter}; give 0 <= x < 1.")
        _check(0 <= self.drop_path < 1, f"segment.drop_path is {self.drop_path}; give 0 <= x < 1.")
        for name in ("crop_size", "embed_dim", "depth", "num_heads", "patch_size"):
            _check(getattr(self, name) > 0, f"segment.{name} is {getattr(self, name)}; give 1 or more.")
        for name in ("long_side", "frozen_blocks", "window", "stride"):
            _check(getattr(self, name) >= 0, f"segment.{name} is {getattr(self, name)}; give 0 or more.")
        _check(
            bool(self.scales) and min(self.scales) > 0,
            f"segment.scales is {self.scales}; give positive numbers.",
        )
        _check(
            self.window == 0 or self.stride <= self.window,
            f"segment.stride is {self.stride} with windows of {self.window} pixels; a larger stride leaves gaps.",
        )


def _segment_training() -> TrainConfig:
    return TrainConfig(
        epochs=30, batch_size=16, lr=6e-5, new_lr_factor=10.0, warmup_epochs=1, min_lr=0.0, schedule="poly", clip=1.0
    )


@dataclass(frozen=True)
class PamrConfig:
    """Pixel-adaptive mask refinement (Araslanov & Roth 2020).

    Args:
        iterations: Times the scores are averaged over their neighbours.
        dilations: Distances of the eight neighbours, in pixels.
        std_scale: Contrast, as a share of the local standard deviation, at which an affinity falls to 1/e.
        downscale: Work at 1/downscale of the photo's size: quicker, wider, and less exact at edges.
    """

    iterations: int = 10
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24)
    std_scale: float = 0.1
    downscale: int = 2

    def __post_init__(self) -> None:
        _check(self.iterations >= 0, f"refine.pamr.iterations is {self.iterations}; give 0 or more.")
        _check(
            bool(self.dilations) and min(self.dilations) >= 1,
            f"refine.pamr.dilations is {self.dilations}; give distances of 1 or more.",
        )
        _check(self.std_scale > 0, f"refine.pamr.std_scale is {self.std_scale}; give a positive number.")
        _check(self.downscale >= 1, f"refine.pamr.downscale is {self.downscale}; give 1 or more.")


@dataclass(frozen=True)
class CrfConfig:
    """Dense CRF; every number left at None is the preset's.

    Args:
        preset: `psa` = unary from the scores as probabilities; `irn` = unary from their argmax (docs/method.md).
        unary: Where the unary comes from.
        label_confidence: Probability given to a pixel's label when the unary comes from labels; the other labels share
            the rest, so 0.5 says nothing where a photo has one class.
        gaussian_sxy: Reach of the smoothness kernel in pixels.
        gaussian_compat: Weight of the smoothness kernel; 0 switches it off.
        bilateral_sxy: Reach of the appearance kernel in pixels.
        bilateral_srgb: Reach of the appearance kernel in grey levels.
        bilateral_compat: Weight of the appearance kernel; 0 switches it off.
        iterations: Mean-field iterations.
        workers: Processes; -1 = one per core, 0 = none besides the calling one.
    """

    preset: Literal["psa", "irn"] = "psa"
    unary: Literal["probabilities", "labels"] | None = None
    label_confidence: float | None = None
    gaussian_sxy: float | None = None
    gaussian_compat: float | None = None
    bilateral_sxy: float | None = None
    bilateral_srgb: float | None = None
    bilateral_compat: float | None = None
    iterations: int | None = None
    workers: int = -1

    def __post_init__(self) -> None:
        for name in ("gaussian_sxy", "bilateral_sxy", "bilateral_srgb"):
            value = getattr(self, name)
            _check(value is None or value > 0, f"refine.crf.{name} is {value}; give a positive number.")
        for name in ("gaussian_compat", "bilateral_compat", "iterations"):
            value = getattr(self, name)
            _check(value is None or value >= 0, f"refine.crf.{name} is {value}; give 0 or more.")
        _check(
            self.label_confidence is None or 0 < self.label_confidence < 1,
            f"refine.crf.label_confidence is {self.label_confidence}; give a number between 0 and 1.",
        )
        _check(self.workers >= -1, f"refine.crf.workers is {self.workers}; give -1 (one per core) or a count.")


@dataclass(frozen=True)
class AffinityConfig:
    """Learned affinity and random walk (PSA, Ahn & Kwak 2018; IRNet, Ahn, Cho & Kwak 2019).

    Args:
        head: `boundary` = a class-boundary map, affinity 1 - largest boundary between two pixels (IRNet);
            `pairwise` = an embedding, affinity exp(-mean distance) (PSA).
        stride: Side in pixels of the grid on which affinity is learned and the scores walk; a power of two.
        radius: Pairs closer than this many grid steps are learned and walked.
        channels: Width of the head.
        confident: `thresholds` = foreground above `foreground`, background below `background`, the rest unsure;
            `scores` = threshold-free: whichever of foreground and background score leads by `margin`.
        clean: Step that the scores go through before confident pixels are read off: without it, pixels just beyond an
            edge count as confident too and the head learns not to see the edge. `crf` is IRNet's, `pamr` is quicker.
        foreground: Confident foreground from this best foreground score.
        background: Confident background below this best foreground score.
        margin: Lead that makes a pixel confident in the threshold-free variant.
        epochs: Passes over the photos.
        batch_size: Photos per update.
        lr: Peak learning rate, falling linearly to 0.
        weight_decay: AdamW weight decay.
        seed: Seed of initialisation and order.
        beta: Power of the affinities in the walk; higher stops it earlier at edges.
        walk_steps: Steps of the walk (IRNet: 2^8).
        rescale: What the walk levels out is restored: not at all (`none`), so that the best class of the photo has
            the maximum it came with (`photo`, IRNet), or so that every class has (`class`).
    """

    head: Literal["boundary", "pairwise"] = "boundary"
    stride: int = 4
    radius: int = 5
    channels: int = 32
    confident: Literal["thresholds", "scores"] = "thresholds"
    clean: Literal["none", "pamr", "crf"] = "pamr"
    foreground: float = 0.40
    background: float = 0.26
    margin: float = 0.1
    epochs: int = 3
    batch_size: int = 8
    lr: float = 1e-3
    weight_decay: float = 1e-4
    seed: int = 0
    beta: float = 10.0
    walk_steps: int = 256
    rescale: Literal["none", "photo", "class"] = "none"

    def __post_init__(self) -> None:
        _check(
            self.stride >= 2 and self.stride & (self.stride - 1) == 0,
            f"refine.affinity.stride is {self.stride}; give 2, 4, 8 or 16 pixels.",
        )
        _check(self.radius >= 2, f"refine.affinity.radius is {self.radius}; give 2 or more.")
        _check(
            0 <= self.background <= self.foreground <= 1,
            f"refine.affinity.background is {self.background} and foreground {self.foreground}; "
            "give 0 <= background <= foreground <= 1.",
        )
        _check(self.margin >= 0, f"refine.affinity.margin is {self.margin}; give 0 or more.")
        for name in ("epochs", "batch_size", "channels"):
            value = getattr(self, name)
            _check(value >= 1, f"refine.affinity.{name} is {value}; give 1 or more.")
        for name in ("lr", "beta"):
            value = getattr(self, name)
            _check(value > 0, f"refine.affinity.{name} is {value}; give a positive number.")
        for name in ("weight_decay", "walk_steps"):
            value = getattr(self, name)
            _check(value >= 0, f"refine.affinity.{name} is {value}; give 0 or more.")


@dataclass(frozen=True)
class SettleConfig:
    """Which of a photo's classes a pixel is, settled by another kind of map.

    Args:
        kind: Kind of map in the seed files that settles (`seeds.kinds`).
        power: How decidedly: 0 = not at all; the higher, the more the best class takes all.
    """

    kind: str = "patch"
    power: float = 4.0

    def __post_init__(self) -> None:
        _check(self.power >= 0, f"refine.settle.power is {self.power}; give 0 or more.")


@dataclass(frozen=True)
class RefineConfig:
    """From seeds to pseudo-masks.

    Args:
        steps: Refinement steps in their order; empty = the seed as it is.
        kind: Kind of seed to start from; empty = the first one in the seed files.
        background_score: `constant` = `threshold`; `power` = (1 - best CAM)^alpha (PSA); `cam` = the background
            channel's own map, without a threshold.
        threshold: Constant background score, chosen without looking at masks.
        alpha: Exponent of the `power` background score; higher means more foreground.
        foreground: A pixel is sure of its class when that leads with at least this score ...
        background: ... and sure of the background when that leads and no class reaches this; else it is 255.
        decide_all: Give every pixel its leading class instead, none is 255.
        preview: Number of photos of which overlays are written.
        allow_missing: Go on without the photos that have no seed.
        settle: Numbers of the `settle` step.
        pamr: Numbers of the `pamr` step.
        crf: Numbers of the `crf` step.
        affinity: Numbers of the `affinity` step.
    """

    steps: tuple[Literal["settle", "pamr", "affinity", "crf"], ...] = ("pamr",)
    kind: str = ""
    background_score: Literal["constant", "power", "cam"] = "constant"
    threshold: float = 0.25
    alpha: float = 4.0
    foreground: float = 0.40
    background: float = 0.26
    decide_all: bool = False
    preview: int = 0
    allow_missing: bool = False
    settle: SettleConfig = field(default_factory=SettleConfig)
    pamr: PamrConfig = field(default_factory=PamrConfig)
    crf: CrfConfig = field(default_factory=CrfConfig)
    affinity: AffinityConfig = field(default_factory=AffinityConfig)

    def __post_init__(self) -> None:
        _check(0 <= self.threshold <= 1, f"refine.threshold is {self.threshold}; give a number from 0 to 1.")
        _check(self.alpha > 0, f"refine.alpha is {self.alpha}; give a positive number.")
        _check(
            0 <= self.background <= 1 and 0 <= self.foreground <= 1,
            f"refine.background is {self.background} and foreground {self.foreground}; give numbers from 0 to 1.",
        )
        _check(self.preview >= 0, f"refine.preview is {self.preview}; give 0 or more.")


@dataclass(frozen=True)
class Config:
    """One run, all stages.

    Args:
        out: Folder of the run.
        stages: Stages of `cti run`, in their order.
        data: Photos, tags, lists.
        model: The network.
        method: The losses.
        train: Optimisation.
        seeds: Extraction of class activation maps.
        score: Scoring of seeds.
        refine: From seeds to pseudo-masks.
        segment: The segmentation network and its predictions.
        segment_train: Optimisation of the segmentation network.
    """

    out: str = "runs/default"
    stages: tuple[Literal["train", "seeds", "masks", "segmenter", "scores", "report"], ...] = (
        "train",
        "seeds",
        "masks",
        "segmenter",
        "scores",
        "report",
    )
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    segment_train: TrainConfig = field(default_factory=_segment_training)

    def __post_init__(self) -> None:
        settles = self.refine.settle.kind
        _check(
            "settle" not in self.refine.steps or settles in self.seeds.kinds,
            f"refine.settle.kind is '{settles}', but seeds.kinds are [{', '.join(self.seeds.kinds)}]; add it to them.",
        )
