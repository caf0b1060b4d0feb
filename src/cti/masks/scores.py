"""From a seed to the scores that refinement starts from: class activation maps under a background score."""

import numpy as np
from numpy.typing import NDArray

from cti.config import MasksConfig
from cti.data.seed_file import Seed


def start_scores(seed: Seed, config: MasksConfig) -> NDArray[np.float32]:
    """Put a background score on top of a seed's class activation maps.

    Args:
        seed: Maps of the photo's n classes.
        config: `background_score` and the number that belongs to it.

    Returns:
        (1+n, H, W) in [0, 1]: background, then the seed's classes. The background is a constant threshold,
        (1 - best CAM)^alpha as in PSA (Ahn & Kwak 2018), or the background channel's own CAM, which needs no
        threshold (docs/method.md, "Seeds"). A photo without classes is sure background.

    Raises:
        ValueError: if the background channel's map is asked for and the seed has none.
    """
    cams = seed.cams().numpy()
    num_classes, height, width = cams.shape
    if num_classes == 0:
        return np.ones((1, height, width), dtype=np.float32)
    if config.background_score == "constant":
        background = np.full((height, width), config.threshold)
    elif config.background_score == "power":
        background = (1 - cams.max(axis=0)) ** config.alpha
    else:
        own = seed.background_cam()
        if own is None:
            raise ValueError(
                "masks.background_score is 'cam' but the seed has no background map; "
                "use 'constant' or 'power', or train with model.background 'token' or 'cam'."
            )
        background = own.numpy()
    return np.concatenate([background[None], cams]).astype(np.float32)
