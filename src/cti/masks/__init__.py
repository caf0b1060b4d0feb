"""From seeds to pseudo-masks: small steps, each of which maps a photo and its scores to better scores.

*Scores* are (1+n, H, W) float32 in [0, 1]: the background first, then the classes of the photo's seed in their
order. An *image* is (H, W, 3) uint8 RGB. Nothing is imported here, so that the dense CRF's worker processes start
without torch; the entry point is `cti.masks.stage`.
"""
