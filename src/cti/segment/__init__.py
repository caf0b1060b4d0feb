"""From masks to a segmentation network: training on pseudo-masks (or real ones) and predicting masks without tags."""
