"""Scores: int64 confusion matrices, all thresholds in one pass, floors, tags, intervals."""

from cti.evaluation.bootstrap import Interval, miou_interval, paired_difference, unpaired_difference
from cti.evaluation.confusion import ConfusionMatrix, class_areas
from cti.evaluation.floors import Floors
from cti.evaluation.labels import label_pixels
from cti.evaluation.masks import MaskScores, score_masks
from cti.evaluation.overlap import cam_overlap
from cti.evaluation.seeds import SeedScores, score_seeds
from cti.evaluation.tags import TagScores, choose_thresholds, f1_scores, score_tags
from cti.evaluation.threshold_sweep import SweepResult, ThresholdScore, ThresholdSweep

__all__ = [
    "ConfusionMatrix",
    "Floors",
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
