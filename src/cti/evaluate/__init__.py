"""Scores: int64 confusion matrices, all thresholds in one pass, baselines, tags, intervals."""

from cti.evaluate.baselines import Baselines
from cti.evaluate.bootstrap import Interval, miou_interval, paired_difference, unpaired_difference
from cti.evaluate.confusion import ConfusionMatrix, class_areas
from cti.evaluate.labels import label_pixels
from cti.evaluate.masks import MaskScores, score_masks
from cti.evaluate.overlap import cam_overlap
from cti.evaluate.seeds import SeedScores, score_seeds
from cti.evaluate.tags import TagScores, choose_thresholds, f1_scores, score_tags
from cti.evaluate.threshold_sweep import SweepResult, ThresholdScore, ThresholdSweep

__all__ = [
    "Baselines",
    "ConfusionMatrix",
    "Interval",
    "MaskScores",
    "SeedScores",
    "SweepResult",
    "TagScores",
    "ThresholdScore",
    "ThresholdSweep",
    "cam_overlap",
    "choose_thresholds",
    "class_areas",
    "f1_scores",
    "label_pixels",
    "miou_interval",
    "paired_difference",
    "score_masks",
    "score_seeds",
    "score_tags",
    "unpaired_difference",
]
