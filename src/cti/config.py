"""Every setting of every stage: frozen dataclasses, checked when they are made, read from YAML and the command line.

No field is read from anywhere else; the resolved whole is written beside each result as `config.yaml`. A stage's result
depends on its sections and never on `runtime`, nor on fields that say where things lie (`LOCATION`).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args, get_type_hints

LOCATION = {"changes_result": False}
"""Metadata of a field that says where something lies and therefore changes no result."""

ListName = Literal["train", "score", "val"]
StageName = Literal["first_look", "train", "seeds", "masks", "segment", "evaluate", "report"]


def spoken(stage: str) -> str:
    """A stage as it is typed and read about, `first-look`; its folder and its setting are `first_look`."""
    return stage.replace("_", "-")


@dataclass(frozen=True)
class Bounds:
    """The range of a number: the metadata of an annotated type, which `Section` checks.

    Args:
        least: Smallest value.
        most: Largest value.
        above: The value must exceed this.
        below: The value must stay under this.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def hold(self, value: float) -> bool:
        """Whether a value lies within the bounds; NaN does not."""
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
            and value == value
        )

    def __repr__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"a number from {self.least:g} to {self.most:g}"
        if self.least is not None and self.below is not None:
            return f"{self.least:g} <= x < {self.below:g}"
        if self.above is not None and self.below is not None:
            return f"a number between {self.above:g} and {self.below:g}"
        return f"{self.least:g} or more" if self.least is not None else "a positive number"


Share = Annotated[float, Bounds(least=0, most=1)]
Part = Annotated[float, Bounds(least=0, below=1)]
Positive = Annotated[float, Bounds(above=0)]
NotNegative = Annotated[float, Bounds(least=0)]
Scale = Annotated[float, Bounds(above=0, most=8)]
Count = Annotated[int, Bounds(least=1)]
CountOrNone = Annotated[int, Bounds(least=0)]
Side = Annotated[int, Bounds(least=0, most=16_384)]  # of a photo as it is seen: the time grows with the fourth power
CountOrAuto = Annotated[int, Bounds(least=-1)]


@dataclass(frozen=True)
class Section:
    """A part of the configuration; the numbers among its fields are checked against their annotated bounds.

    Raises:
        ValueError: if a number lies outside; the message names the setting and what to give.
    """

    section: ClassVar[str] = ""
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # read back, unknown settings are errors

    def __post_init__(self) -> None:
        section: Any = type(self)
        for name, bounds in _bounded_fields(section):
            for value in _numbers(getattr(self, name)):
                self.check(bounds.hold(value), f"{name} is {getattr(self, name)}; give {bounds}.")
        for name in _texts(section):  # jsonargparse lets null pass for a text
            self.check(isinstance(getattr(self, name), str), f"{name} is null; give a text.")

    def check(self, condition: bool, message: str) -> None:
        """Raise a `ValueError` with the section's name before the message unless the condition holds."""
        if not condition:
            raise ValueError(f"{self.section}.{message}")


@cache
def _bounded_fields(section: Any) -> tuple[tuple[str, Bounds], ...]:
    hints = get_type_hints(section, include_extras=True)
    return tuple((name, bounds) for name, hint in hints.items() if (bounds := next(_bounds_in(hint), None)))


@cache
def _texts(section: Any) -> tuple[str, ...]:
    return tuple(name for name, hint in get_type_hints(section).items() if hint is str)


def _bounds_in(hint: Any) -> Iterator[Bounds]:
    for part in (*getattr(hint, "__metadata__", ()), *get_args(hint)):
        if isinstance(part, Bounds):
            yield part
        elif not isinstance(part, str):
            yield from _bounds_in(part)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, tuple):
        for inner in value:
            yield from _numbers(inner)
    elif isinstance(value, int | float):
        yield value


@dataclass(frozen=True)
class DataConfig(Section):
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
        val_fraction: Without lists, the share of photos held out as `val`, drawn by `split_seed`; a few more where each
            class with two photos or more would not be among them.
        split_seed: Seed of that draw.
        empty_tags: What to do with photos without a tag of the classes: `skip` leaves them out, `negative` trains on
            them as photos of none of the classes; `auto` does so where a tags file lists a photo without any tag.
        max_broken: Share of unreadable photos above which training stops.
        max_pixels: Photos with more pixels than this are refused by name (decompression bombs).
        levels: Lowest and highest value in photos of more than 8 bits (16-bit or float, grey or colour), which become
            black and white in all of them and, later, in new photos; `cti data check` says which fit. Empty: every
            photo has its own.
        bands: Which three bands of TIFFs with more than colours, and of numpy's files (H, W, bands), become red, green
            and blue, counted from 1, e.g. [3, 2, 1]. Empty: such files are refused.
    """

    section: ClassVar[str] = "data"

    root: str = field(default="", metadata=LOCATION)
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
    val_fraction: Part = 0.1
    split_seed: int = 0
    empty_tags: Literal["auto", "skip", "negative"] = "auto"
    max_broken: Share = 0.01
    max_pixels: Count = 100_000_000
    levels: tuple[float, ...] = ()
    bands: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        fit = not self.levels or (len(self.levels) == 2 and -math.inf < self.levels[0] < self.levels[1] < math.inf)
        self.check(fit, f"levels is {list(self.levels)}; give the lowest and the highest value, or nothing.")
        named = len(self.bands) in (0, 3) and all(band > 0 for band in self.bands)
        self.check(named, f"bands is {list(self.bands)}; name three bands, counted from 1, or none.")


@dataclass(frozen=True)
class BackboneConfig(Section):
    """A plain ViT and its weights; the network of the method and the segmenter each have one.

    Args:
        backbone: Name of a plain ViT of timm, e.g. `deit_small_patch16_224`, `vit_small_patch14_dinov2`, or `vit` to
            build one from the sizes below.
        weights: `timm` (downloaded from the hub), `none` (from scratch), or the path of a .safetensors / .pth file.
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
    drop_path: Part = 0.1
    embed_dim: Count = 192
    depth: Count = 6
    num_heads: Count = 3
    patch_size: Count = 8
    stem: Literal["patch", "conv"] = "patch"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(
            self.backbone != "vit" or self.embed_dim % self.num_heads == 0,
            f"embed_dim is {self.embed_dim}; give a multiple of num_heads, {self.num_heads}.",
        )


@dataclass(frozen=True)
class ModelConfig(BackboneConfig):
    """The network of the method: `BackboneConfig` and the following.

    Args:
        image_size: Side of a training crop in pixels; a multiple of the backbone's patch.
        infusion_index: 0-based block whose output class tokens are infused into the next block's input.
        background: `token` = the method; `cam` = a background channel without a token; `none` = neither.
        class_tokens: `each` = every class token attracts attention of its own (the method); `as_one` = together they
            attract as much as one and start as copies of the backbone's, so that patches start as the backbone's.
        final_norm: Layer-norm the patch tokens before the patch head; `auto` = where the backbone has layer scale.
        patch_features: What the patch head sees: patches of the `last` block (the method), or of `two` blocks side by
            side, the last and, layer-normed, the one at three quarters of the depth, which is less smeared.
        pooling: How scores of patches become a photo's: their `mean` (the method), the mean of the highest 3 %
            (`topk`), so that a small thing is heard, or between the two a smooth maximum (`lse`). The first look's
            head is fitted to means.
    """

    section: ClassVar[str] = "model"

    image_size: Count = 224
    infusion_index: CountOrNone = 3
    background: Literal["none", "cam", "token"] = "token"
    class_tokens: Literal["each", "as_one"] = "each"
    final_norm: Literal["auto", "on", "off"] = "auto"
    patch_features: Literal["last", "two"] = "last"
    pooling: Literal["mean", "topk", "lse"] = "mean"


@dataclass(frozen=True)
class MethodConfig(Section):
    """The losses of the step (paper section 3; docs/method.md).

    Args:
        background_weight: Weight of the background loss; 0 switches it off.
        intra_weight: Weight of intra-image infusion; 0 switches its pass off.
        cross_weight: Weight of cross-image infusion; 0 switches its pass off.
        intra_detach: Stop the gradient at the tokens that view 2 gives (the method lets it pass).
        cross_source: Whose tokens cross-image infusion gives: those of the `bank` (the method), or the photo's `own`,
            which leaves of its loss only that patch maps agree with class-to-patch attention.
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

    section: ClassVar[str] = "method"

    background_weight: NotNegative = 0.1
    intra_weight: NotNegative = 1.0
    cross_weight: NotNegative = 1.0
    intra_detach: bool = False
    cross_source: Literal["bank", "own"] = "bank"
    start_epoch: int = 0
    bank_size: Count = 30
    gate: Literal["all", "per_class"] = "all"
    detach_patch_maps_in_background: bool = False
    attention_blocks: Count = 6
    positive_weight: NotNegative = 0.0
    crop_scale: tuple[Positive, Positive] = (0.3, 1.2)

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.crop_scale
        self.check(low <= high, f"crop_scale is {self.crop_scale}; give 0 < smallest <= largest.")


@dataclass(frozen=True)
class OptimiserConfig(Section):
    """Optimisation; CTI and the segmenter each have one.

    Args:
        epochs: Passes over the training photos; 0 = by their number (`cti.train.optimiser.epochs_by_size`).
        batch_size: Photos per step, shared out to the devices.
        lr: Peak learning rate of the pre-trained parts.
        new_lr_factor: Multiplier of `lr` for newly initialised parts.
        weight_decay: AdamW weight decay.
        warmup_epochs: Epochs of linear warm-up from `warmup_lr`, at most a quarter of the run.
        warmup_lr: Learning rate at the start of the warm-up.
        min_lr: Floor of the schedule.
        schedule: Shape after the warm-up.
        schedule_per: Whether the schedule moves every step or (as the released code does) every epoch.
        clip: Largest gradient norm; 0 = no clipping.
        accumulate: Steps whose gradients are averaged before an update.
        precision: `auto` = bf16 where the processor is quick at it, else float32.
        recompute: Recompute block activations in the backward pass: half the memory for about a quarter more time.
        seed: Seed of everything drawn at random.
    """

    epochs: CountOrNone = 60
    batch_size: Count = 64
    lr: Positive = 6.25e-5
    new_lr_factor: Positive = 1.0
    weight_decay: NotNegative = 0.05
    warmup_epochs: NotNegative = 5
    warmup_lr: NotNegative = 1e-6
    min_lr: NotNegative = 1e-5
    schedule: Literal["cosine", "poly"] = "cosine"
    schedule_per: Literal["step", "epoch"] = "step"
    clip: NotNegative = 0.0
    accumulate: Count = 1
    precision: Literal["auto", "32", "bf16", "16", "64"] = "auto"
    recompute: bool = False
    seed: int = 0


@dataclass(frozen=True)
class TrainConfig(OptimiserConfig):
    """Training of CTI: `OptimiserConfig` and the following.

    Args:
        warm_start: Start from a linear head on the frozen backbone (`cti first-look`); `auto` = where the
            backbone has pre-trained weights; `only` = stay with it: nothing is trained, minutes instead of an hour;
            `enough` = `only` where the backbone has pre-trained weights, else training from scratch.
        frozen_blocks: The first so many blocks of the ViT (and its patch embedding) keep their weights, which few
            photos could only spoil, and need no backward pass; 0 trains everything.
        keep: `better` = training cannot lose: where it ends with worse tags than it began with, the better network is
            kept; `last` = what training ended with, whatever it is, which is what comparing methods needs.
    """

    section: ClassVar[str] = "train"

    warm_start: Literal["auto", "on", "only", "enough", "off"] = "auto"
    frozen_blocks: CountOrNone = 0
    keep: Literal["better", "last"] = "better"


@dataclass(frozen=True)
class SegmentTrainConfig(OptimiserConfig):
    """Training of the segmenter: `OptimiserConfig` with other defaults."""

    section: ClassVar[str] = "segment.train"

    epochs: CountOrNone = 30
    batch_size: Count = 16
    lr: Positive = 6e-5
    new_lr_factor: Positive = 10.0
    warmup_epochs: NotNegative = 1
    min_lr: NotNegative = 0.0
    schedule: Literal["cosine", "poly"] = "poly"
    clip: NotNegative = 1.0


MapKind = Literal["refined", "fused", "patch", "spread", "located", "attention"]


@dataclass(frozen=True)
class SeedsConfig(Section):
    """How class activation maps are extracted.

    Args:
        scales: Sizes relative to the photo's own; several are summed.
        long_side: Photos are resized to this longest side first; 0 = own size.
        window: After that, larger photos are seen window by window of this side in pixels, so that small things stay
            as large as they are and memory is bounded; 0 = always whole, and reduced to 6,000 patches; -1 = windows of
            512 pixels for photos of more than 6,000 patches.
        flip: Add the mirrored photo's maps.
        blocks: The last so many blocks of attention to use; 0 = all of them (the method).
        kinds: Kinds of maps to keep, so that they can be scored side by side; the first one is the seed that later
            stages use: refined (the method), fused, patch (patch maps), spread (patch maps times the patch affinity of
            the middle blocks, without class tokens), located (by the densities that the first look fits, with
            `model.patch_features: two`; without it as spread) or attention (class-to-patch).
        precision: `auto` = bf16 where the processor is quick at it, else float32; maps are computed in float32 anyway.
        lists: Lists of photos to extract seeds for.
        predicted_tags: Lists for which seeds are also made from predicted instead of given tags, for comparison with
            a segmenter, which sees no tags.
    """

    section: ClassVar[str] = "seeds"

    scales: tuple[Scale, ...] = (1.0,)
    long_side: Side = 0
    window: CountOrAuto = -1
    flip: bool = True
    blocks: CountOrNone = 0
    kinds: tuple[Literal["refined", "fused", "patch", "spread", "located", "attention"], ...] = (
        "refined",
        "fused",
        "patch",
    )
    precision: Literal["auto", "32", "bf16"] = "auto"
    lists: tuple[ListName, ...] = ("train", "score", "val")
    predicted_tags: tuple[ListName, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(bool(self.scales), "scales is empty; give positive numbers.")
        self.check(bool(self.kinds), "kinds is empty; give refined, fused, patch, spread, located or attention.")


@dataclass(frozen=True)
class PamrConfig(Section):
    """Pixel-adaptive mask refinement (Araslanov & Roth 2020).

    Args:
        iterations: Times the scores are averaged over their neighbours.
        dilations: Distances of the eight neighbours, in pixels.
        std_scale: Contrast, as a share of the local standard deviation, at which an affinity falls to 1/e.
        downscale: Work at 1/downscale of the photo's size: quicker, wider, and less exact at edges.
    """

    section: ClassVar[str] = "masks.pamr"

    iterations: CountOrNone = 10
    dilations: tuple[Count, ...] = (1, 2, 4, 8, 12, 24)
    std_scale: Positive = 0.1
    downscale: Count = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(bool(self.dilations), "dilations is empty; give distances of 1 or more.")


@dataclass(frozen=True)
class CrfConfig(Section):
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
    """

    section: ClassVar[str] = "masks.crf"

    preset: Literal["psa", "irn"] = "psa"
    unary: Literal["probabilities", "labels"] | None = None
    label_confidence: Annotated[float, Bounds(above=0, below=1)] | None = None
    gaussian_sxy: Positive | None = None
    gaussian_compat: NotNegative | None = None
    bilateral_sxy: Positive | None = None
    bilateral_srgb: Positive | None = None
    bilateral_compat: NotNegative | None = None
    iterations: CountOrNone | None = None


@dataclass(frozen=True)
class AffinityConfig(Section):
    """Learned affinity and random walk (PSA, Ahn & Kwak 2018; IRNet, Ahn, Cho & Kwak 2019).

    Args:
        head: `boundary` = a class-boundary map, affinity 1 - largest boundary between two pixels (IRNet);
            `pairwise` = an embedding, affinity exp(-mean distance) (PSA).
        stride: Side in pixels of the grid on which affinity is learned and the scores walk; a power of two.
        radius: Pairs closer than this many grid steps are learned and walked.
        channels: Width of the head.
        clean: Step that the scores go through before confident pixels are read off: without it, pixels just beyond an
            edge count as confident too and the head learns not to see the edge. `crf` is IRNet's, `pamr` is quicker.
        foreground: Confident foreground from this best foreground score.
        background: Confident background below this best foreground score; the rest is ignored.
        epochs: Passes over the photos.
        batch_size: Photos per update.
        lr: Peak learning rate, falling linearly to 0.
        weight_decay: AdamW weight decay.
        seed: Seed of initialisation and order.
        beta: Power of the affinities in the walk; higher stops it earlier at edges.
        walk_steps: Steps of the walk (IRNet: 2^8).
    """

    section: ClassVar[str] = "masks.affinity"

    head: Literal["boundary", "pairwise"] = "boundary"
    stride: Annotated[int, Bounds(least=2)] = 4
    radius: Annotated[int, Bounds(least=2)] = 5
    channels: Count = 32
    clean: Literal["none", "pamr", "crf"] = "pamr"
    foreground: Share = 0.40
    background: Share = 0.26
    epochs: Count = 3
    batch_size: Count = 8
    lr: Positive = 1e-3
    weight_decay: NotNegative = 1e-4
    seed: int = 0
    beta: Positive = 10.0
    walk_steps: CountOrNone = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.stride & (self.stride - 1) == 0, f"stride is {self.stride}; give 2, 4, 8 or 16 pixels.")
        self.check(
            self.background <= self.foreground,
            f"background is {self.background} and foreground {self.foreground}; "
            "give 0 <= background <= foreground <= 1.",
        )


@dataclass(frozen=True)
class OverlapConfig(Section):
    """Which of a photo's classes a pixel is, decided by another kind of map.

    Args:
        kind: Kind of map in the seed files that decides (`seeds.kinds`).
        power: How sharply: 0 = not at all; the higher, the more the best class takes all.
    """

    section: ClassVar[str] = "masks.resolve_overlap"

    kind: str = "patch"
    power: NotNegative = 4.0


@dataclass(frozen=True)
class MasksConfig(Section):
    """From seeds to pseudo-masks.

    Args:
        steps: Refinement steps in their order; empty = the seed as it is.
        kind: Kind of seed to start from; empty = the first one in the seed files.
        background_score: `constant` = `threshold`; `power` = (1 - best CAM)^alpha (PSA); `cam` = the background
            channel's own map, without a threshold.
        threshold: Constant background score, chosen without looking at masks.
        alpha: Exponent of the `power` background score; higher means more foreground.
        foreground: A pixel is confident of its class when that leads with at least this score ...
        background: ... and confident background when that leads and no class reaches this; else it is ignored (255).
        argmax: Give every pixel its leading class instead; none is ignored.
        resolve_overlap: Numbers of the `resolve_overlap` step.
        pamr: Numbers of the `pamr` step.
        crf: Numbers of the `crf` step.
        affinity: Numbers of the `affinity` step.
    """

    section: ClassVar[str] = "masks"

    steps: tuple[Literal["resolve_overlap", "pamr", "affinity", "crf"], ...] = ("pamr",)
    kind: str = ""
    background_score: Literal["constant", "power", "cam"] = "constant"
    threshold: Share = 0.25
    alpha: Positive = 4.0
    foreground: Share = 0.40
    background: Share = 0.26
    argmax: bool = False
    resolve_overlap: OverlapConfig = field(default_factory=OverlapConfig)
    pamr: PamrConfig = field(default_factory=PamrConfig)
    crf: CrfConfig = field(default_factory=CrfConfig)
    affinity: AffinityConfig = field(default_factory=AffinityConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.steps.count("affinity") <= 1, "steps names affinity twice; one affinity step is enough.")


@dataclass(frozen=True)
class SegmentConfig(BackboneConfig):
    """The segmentation network: what it is and what it learns from.

    Args:
        weights: As for the network of the method; for `smp:` also a name of that encoder's weights (`timm` then means
            `imagenet`). `run` = the ViT of the run's trained CTI network, whatever `backbone` says: it knows the
            classes already.
        network: `vit-mlp` (a plain ViT as it is and two linear layers per patch, trained in about a minute on features
            computed once), `vit-upsample` (plain ViT and a small up-sampling decoder), `vit-linear` (plain ViT and one
            linear layer) or `smp:ARCHITECTURE:ENCODER` of segmentation-models-pytorch, e.g.
            `smp:DeepLabV3Plus:resnet101`.
        masks: Folder of masks to learn from, `<photo id>.png`; empty: the run's pseudo-masks; `real`: the data set's
            own, for the fully supervised upper bound.
        crop_size: Side of a training crop in pixels.
        long_side: Photos are resized to this longest side first, in training and prediction; 0 = own size.
        scale_range: Training photos are scaled by a factor drawn (log-uniformly) from this range.
        jitter: Strength of the change of brightness, contrast and saturation in training; hue changes by a fifth of it.
        frozen_blocks: The first so many blocks of the ViT (and its patch embedding) keep their weights. They
            then need no backward pass: freezing half of the blocks makes a training step about a third cheaper, and
            is worth trying when photos are few. 0 trains everything. `vit-mlp` trains none of them.
        balance: How much more rare classes count in the loss of `vit-mlp`: weights are the shares of the patches to
            the power of minus this; 0 = all patches count alike.
        reviewed_weight: How many times as much as any other a pixel counts in the loss whose label a person gave
            (`cti serve`, `cti review`).
        rounds: Times that it is trained: after the first, it goes on from its weights, on its own predictions among the
            photo's tags, joined with the masks it has learned from as the run's masks are.
        round_confidence: Of these, a label that is less probable than this is left out (255).
        train: Optimisation of the segmentation network.
    """

    section: ClassVar[str] = "segment"

    network: str = "vit-upsample"
    masks: str = ""
    crop_size: Count = 224
    long_side: Side = 0
    scale_range: tuple[Positive, Positive] = (0.5, 2.0)
    jitter: Part = 0.4
    frozen_blocks: CountOrNone = 0
    balance: Part = 0.5
    reviewed_weight: Positive = 3.0
    rounds: Count = 1
    round_confidence: Share = 0.8
    train: SegmentTrainConfig = field(default_factory=SegmentTrainConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        smp = self.network.startswith("smp:") and self.network.count(":") == 2
        self.check(
            self.network in ("vit-mlp", "vit-upsample", "vit-linear") or smp,
            f"network is '{self.network}'; give vit-mlp, vit-upsample, vit-linear or smp:ARCHITECTURE:ENCODER.",
        )
        self.check(
            not (smp and self.weights == "run"),
            "weights is 'run', which an smp: network cannot take; give other weights.",
        )
        low, high = self.scale_range
        self.check(low <= high, f"scale_range is {self.scale_range}; give 0 < smallest <= largest.")


@dataclass(frozen=True)
class PredictConfig(Section):
    """How the segmenter predicts.

    Args:
        variants: Ways to predict, each scored on its own, the first one being the result: `single` = one scale,
            `multi-scale` = `multi_scales`, `+crf` = the same and dense CRF (`crf`).
        multi_scales: Scales of the `multi-scale` variants, relative to `segment.long_side` (or the photo's own);
            probabilities are averaged.
        flip: Average with the prediction of the mirrored photo.
        window: Larger photos are predicted window by window of this side in pixels; 0 = always whole.
        stride: Distance between windows in pixels; 0 = two thirds of the window.
        crf: Preset of the dense CRF of the `+crf` variants.
        lists: Lists of photos to predict without their tags, beside the masks, which all photos get.
        pseudo_weight: How much the pseudo-mask counts in a photo's mask: the label it gives a pixel gains so much in
            log-probability (1 = as if the segmenter found it e times as likely); 0 = the segmenter alone, restricted
            to the photo's tags.
        precision: `auto` = the network computes in bf16 where the processor is quick at it, else in float32.
        false_alarms: For new photos without tags (`cti label`, `cti serve`): a class is only looked for above the score
            that this share of the photos held out without it exceeds. None = CTI's thresholds of the best F1, and
            whatever the segmenter sees.
    """

    section: ClassVar[str] = "predict"

    variants: tuple[Literal["single", "multi-scale", "single+crf", "multi-scale+crf"], ...] = ("single",)
    multi_scales: tuple[Scale, ...] = (0.75, 1.0, 1.25)
    flip: bool = True
    window: CountOrNone = 512
    stride: CountOrNone = 0
    crf: Literal["psa", "irn"] = "psa"
    lists: tuple[ListName, ...] = ("score", "val")
    pseudo_weight: NotNegative = 1.0
    precision: Literal["auto", "32", "bf16"] = "auto"
    false_alarms: Part | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(bool(self.variants), "variants is empty; give at least `single`.")
        self.check(bool(self.multi_scales), "multi_scales is empty; give positive numbers.")
        self.check(
            self.window == 0 or self.stride <= self.window,
            f"stride is {self.stride} with windows of {self.window} pixels; a larger stride leaves gaps.",
        )


@dataclass(frozen=True)
class EvaluateConfig(Section):
    """How seeds are scored.

    Args:
        threshold: Fixed background score, chosen without looking at masks.
        bootstrap: Resamples for confidence intervals; 0 = none.
    """

    section: ClassVar[str] = "evaluate"

    threshold: Share = 0.25
    bootstrap: CountOrNone = 0


@dataclass(frozen=True)
class RuntimeConfig(Section):
    """What changes how long something takes and what is shown of it, but no result.

    Args:
        workers: Processes that load photos; -1 = as many as pay on this machine.
        devices: Number of devices of this machine to train on; `auto` = all GPUs, or one CPU.
        nodes: Number of machines to train on, with processes that torchrun or srun starts; 0 = where it has done so.
        accelerator: Kind of device, in the words of Lightning Fabric.
        batch_size: Photos of one size per forward pass where nothing is trained.
        checkpoint_every: Steps between checkpoints within an epoch; 0 = at the end of epochs only.
        preview: Number of photos of which overlays are written in the stage `masks`.
        allow_missing: Go on without the photos that have no seed or no mask.
        overwrite: Where settings or photos have changed, make again what no longer fits, instead of refusing.
        retrain: Train networks again where photos have changed, instead of keeping CTI's and going on with the
            segmenter's.
    """

    section: ClassVar[str] = "runtime"

    workers: CountOrAuto = -1
    devices: int | str = "auto"
    nodes: CountOrNone = 0
    accelerator: str = "auto"
    batch_size: Count = 8
    checkpoint_every: CountOrNone = 200
    preview: CountOrNone = 0
    allow_missing: bool = False
    overwrite: bool = False
    retrain: bool = False


ONLY_TRAINING = r"method\..+|train\.(?!(warm_start|seed)$).+"
"""Names of settings that only say how CTI is trained, as a pattern: they change nothing where it is not."""


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
        masks: From seeds to pseudo-masks.
        segment: The segmentation network and its optimisation.
        predict: How the segmentation network predicts.
        evaluate: Scoring.
        runtime: Processes, devices and what is shown; changes no result.
    """

    out: str = "runs/default"
    stages: tuple[StageName, ...] = ("first_look", "train", "seeds", "masks", "segment", "evaluate", "report")
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    masks: MasksConfig = field(default_factory=MasksConfig)
    segment: SegmentConfig = field(default_factory=SegmentConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)

    def __post_init__(self) -> None:
        kind = self.masks.resolve_overlap.kind
        if "resolve_overlap" in self.masks.steps and kind not in self.seeds.kinds:
            raise ValueError(
                f"masks.resolve_overlap.kind is '{kind}', but seeds.kinds are [{', '.join(self.seeds.kinds)}]; "
                "add it to them."
            )

    @property
    def looks_first(self) -> bool:
        """Whether training starts from a first look: where `train.warm_start` says so, or the backbone has weights."""
        start = self.train.warm_start
        return start in ("on", "only") or (start in ("auto", "enough") and self.model.weights != "none")

    @property
    def look_is_enough(self) -> bool:
        """Whether the first look's network is taken as it is, and nothing of CTI is trained."""
        return self.looks_first and self.train.warm_start in ("only", "enough")
