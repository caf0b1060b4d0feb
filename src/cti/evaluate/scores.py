"""What scoring comes to, as plain values that are written to JSON and read back.

Scores are fractions, and None where they are undefined. Counting is done elsewhere (`ConfusionMatrix`,
`ThresholdSweep`) and turned into these values once, at the end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from cti.classes import BACKGROUND
from cti.evaluate.bootstrap import Interval
from cti.evaluate.confusion import ConfusionMatrix, by_name, mean, number
from cti.evaluate.segment_tags import Alarms
from cti.evaluate.tags import TagScores

ByClass = dict[str, float | None]

SEED_FIXED, SEED_FREE, PSEUDO_MASKS, MASKS = "seed, fixed", "seed, threshold-free", "pseudo-masks", "masks"


@dataclass(frozen=True)
class ClassScores:
    """Scores of pixels by class, background included, over a list of photos.

    Args:
        miou: Mean IoU over the classes that are true or predicted somewhere.
        interval: Its bootstrap interval, if one was asked for.
        mean_precision: Mean over the classes that are predicted.
        mean_recall: Mean over the classes that occur.
        accuracy: Share of the labelled pixels that are right.
        iou: Class -> IoU; None where a class is neither true nor predicted.
        precision: Class -> share of the pixels predicted as it that are of it; None where it is never predicted.
        recall: Class -> share of its pixels that are predicted as it; None where it never occurs.
        false_positive_rate: Class -> share of the other classes' pixels that are predicted as it.
        confusion: (K, K) pixels, the true class first, in the order of `iou`.
    """

    miou: float | None
    interval: Interval | None
    mean_precision: float | None
    mean_recall: float | None
    accuracy: float | None
    iou: ByClass
    precision: ByClass
    recall: ByClass
    false_positive_rate: ByClass
    confusion: tuple[tuple[int, ...], ...]

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that are neither true nor predicted, which the mean leaves out."""
        return tuple(name for name, iou in self.iou.items() if iou is None)


@dataclass(frozen=True)
class Curve:
    """Scores at each of T background thresholds.

    Args:
        thresholds: (T,) rising.
        miou: (T,) mean IoU.
        precision: (T,) mean precision.
        recall: (T,) mean recall.
        iou: Class -> (T,) IoU.
    """

    thresholds: tuple[float, ...]
    miou: tuple[float | None, ...]
    precision: tuple[float | None, ...]
    recall: tuple[float | None, ...]
    iou: dict[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class SeedScores:
    """Scores of one kind of seed over a list of photos.

    Args:
        kind: Kind of map that was scored (`refined`, `fused`, ...); empty = the seed files' first.
        num_photos: Photos that were scored.
        threshold: The fixed background score, chosen without masks.
        fixed: Scores at `threshold`.
        best_threshold: The background score of the highest mIoU.
        best: Scores at `best_threshold`, which true masks have chosen: all others need no pixel label.
        threshold_free: Scores with the background's own CAM as background score; None for a model without one.
        baselines: Mean IoU that tags alone give, by the name of the guess.
        cam_overlap: Mean overlap of the CAMs of different classes over photos with two tags or more.
        num_overlap_photos: Number of such photos.
        curve: Scores at every threshold.
    """

    kind: str
    num_photos: int
    threshold: float
    fixed: ClassScores
    best_threshold: float
    best: ClassScores
    threshold_free: ClassScores | None
    baselines: dict[str, float | None]
    cam_overlap: float | None
    num_overlap_photos: int
    curve: Curve

    @property
    def best_baseline(self) -> float | None:
        """The highest mean IoU that tags alone give."""
        return max((score for score in self.baselines.values() if score is not None), default=None)


@dataclass(frozen=True)
class MaskScores:
    """Scores of masks, pseudo-masks or segmentations, in which pixels may be ignored (255), over a list of photos.

    Args:
        num_photos: Photos that were scored.
        as_background: Scores of all labelled pixels, ignored ones counted as background. Compare by these.
        confident: Scores of the pixels that are not ignored. They flatter masks that ignore what is hard; read them
            with `coverage`.
        coverage: Share of the labelled pixels that are not ignored.
    """

    num_photos: int
    as_background: ClassScores
    confident: ClassScores
    coverage: float | None


@dataclass(frozen=True)
class ForegroundShares:
    """How much is called foreground on normal photos, which show none of the classes: 0 is right.

    Args:
        num_photos: Normal photos that were looked at.
        photos: Share of them with any foreground.
        pixels: Share of their pixels that are foreground.
    """

    num_photos: int
    photos: float
    pixels: float


@dataclass(frozen=True)
class ListScores:
    """Scores of everything that a run has made for a list of photos; what it has not made is empty or None.

    Args:
        seeds: Kind of map -> scores, the kind that later stages use first.
        seeds_predicted_tags: The same for seeds of predicted instead of given tags.
        pseudo_masks: Scores of the pseudo-masks.
        steps: Refinement steps so far (`seed`, `pamr`, `pamr+affinity`) -> scores of their argmax.
        segment: Variant of the segmenter's predictions, which see no tags -> scores.
        masks: Scores of the masks: the segmenter and the pseudo-masks together, restricted to the photos' tags.
        normal: What was looked at -> its foreground on normal photos.
        segment_tags: How well the segmenter knows the tags of the photos that were not trained on.
        segment_alarms: How many normal ones of these look like the others to it.
    """

    seeds: dict[str, SeedScores] = field(default_factory=dict)
    seeds_predicted_tags: dict[str, SeedScores] = field(default_factory=dict)
    pseudo_masks: MaskScores | None = None
    steps: dict[str, MaskScores] = field(default_factory=dict)
    segment: dict[str, MaskScores] = field(default_factory=dict)
    masks: MaskScores | None = None
    normal: dict[str, ForegroundShares] = field(default_factory=dict)
    segment_tags: TagScores | None = None
    segment_alarms: Alarms | None = None

    @property
    def first_seeds(self) -> SeedScores | None:
        """Scores of the kind of seeds that later stages use."""
        return next(iter(self.seeds.values()), None)

    @property
    def masks_by_name(self) -> dict[str, MaskScores]:
        """The pseudo-masks, each variant of the segmentation, and the masks."""
        masks = {
            PSEUDO_MASKS: self.pseudo_masks,
            **{segmentation_name(variant): scores for variant, scores in self.segment.items()},
            MASKS: self.masks,
        }
        return {name: scores for name, scores in masks.items() if scores is not None}

    @property
    def by_name(self) -> dict[str, ClassScores]:
        """The results of the run in the order of the pipeline: seeds (the first kind), then `masks_by_name`."""
        scores: dict[str, ClassScores] = {}
        if (seeds := self.first_seeds) is not None:
            scores[SEED_FIXED] = seeds.fixed
            if seeds.threshold_free is not None:
                scores[SEED_FREE] = seeds.threshold_free
        return scores | {name: masks.as_background for name, masks in self.masks_by_name.items()}


@dataclass(frozen=True)
class RunScores:
    """Scores of a run.

    Args:
        classes: The C foreground classes.
        lists: Name of a list of photos (`score`, `val`) -> its scores; without lists that have nothing to score.
        picture: Path of the picture of some photos with all their results; None if there was nothing to show.
        remarks: A sentence about each class that is tagged and in no mask.
        gained: What the last round of the segmenter's training has brought, a sentence each.
    """

    classes: tuple[str, ...]
    lists: dict[str, ListScores]
    picture: str | None = None
    remarks: tuple[str, ...] = ()
    gained: tuple[str, ...] = ()


def class_scores(matrix: ConfusionMatrix, classes: Sequence[str], interval: Interval | None = None) -> ClassScores:
    """Read the scores off a confusion matrix.

    Args:
        matrix: Over K = C+1 classes, background first.
        classes: The C foreground classes.
        interval: Bootstrap interval of its mIoU.

    Raises:
        ValueError: if the number of classes does not fit.
    """
    names = (BACKGROUND, *classes)
    if len(names) != matrix.num_classes:
        raise ValueError(f"{len(names)} names were given for {matrix.num_classes} classes (background included).")
    return ClassScores(
        miou=number(matrix.miou),
        interval=interval,
        mean_precision=number(mean(matrix.precision)),
        mean_recall=number(mean(matrix.recall)),
        accuracy=number(matrix.accuracy),
        iou=by_name(names, matrix.iou),
        precision=by_name(names, matrix.precision),
        recall=by_name(names, matrix.recall),
        false_positive_rate=by_name(names, matrix.false_positive_rate),
        confusion=tuple(tuple(counts) for counts in matrix.counts.tolist()),
    )


def segmentation_name(variant: str) -> str:
    """What a variant of the segmenter's predictions is called in tables."""
    return f"segmentation, {variant}"


def mean_defined(scores: Iterable[float | None]) -> float | None:
    """Mean of the scores that are defined; None if none is."""
    defined = [score for score in scores if score is not None]
    return sum(defined) / len(defined) if defined else None
