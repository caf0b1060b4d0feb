"""Scores: int64 confusion matrices, all thresholds in one pass, baselines, tags, intervals."""
