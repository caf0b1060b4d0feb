"""Scores: int64 confusion matrices, all thresholds in one pass, baselines, tags, intervals."""

from cti.evaluate.baselines import Baselines
from cti.evaluate.bootstrap import Interval, miou_interval, paired_difference
from cti.evaluate.confusion import ConfusionMatrix, class_areas
from cti.evaluate.labels import label_pixels
from cti.evaluate.masks import MaskCounts, count_masks, foreground_shares
from cti.evaluate.overlap import cam_overlap
from cti.evaluate.scores import (
    ClassScores,
    ForegroundShares,
    ListScores,
    MaskScores,
    RunScores,
    SeedScores,
    class_scores,
)
from cti.evaluate.seeds import SeedCounts, count_seeds
from cti.evaluate.tags import TagScores, choose_thresholds, f1_scores, score_tags
from cti.evaluate.threshold_sweep import SweepResult, ThresholdScore, ThresholdSweep

__all__ = [
    "Baselines",
    "ClassScores",
    "ConfusionMatrix",
    "ForegroundShares",
    "Interval",
    "ListScores",
    "MaskCounts",
    "MaskScores",
    "RunScores",
    "SeedCounts",
    "SeedScores",
    "SweepResult",
    "TagScores",
    "ThresholdScore",
    "ThresholdSweep",
    "cam_overlap",
    "choose_thresholds",
    "class_areas",
    "class_scores",
    "count_masks",
    "count_seeds",
    "f1_scores",
    "foreground_shares",
    "label_pixels",
    "miou_interval",
    "paired_difference",
    "score_tags",
]
