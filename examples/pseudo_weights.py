"""Score a run's masks for several weights of pseudo-masks: python examples/pseudo_weights.py RUN [WEIGHT ...]

RUN has finished `segment`. Masks of `val` are made as the run's are, once for each `predict.pseudo_weight`, and scored
by true masks; 0 is the segmenter alone, kept to the photo's tags. A weight chosen so was chosen with pixel labels.
"""

import sys
from dataclasses import replace

import numpy as np

from cti.data.images import load_mask
from cti.evaluate.confusion import ConfusionMatrix
from cti.run import Run
from cti.segment.checkpoint import load_segmenter
from cti.segment.make_masks import join
from cti.segment.predict import pixel_probabilities, predict_probabilities


def main(folder: str, weights: list[float]) -> None:
    run = Run.open(folder)
    trained = load_segmenter(run.stage_folder("segment"))
    settings = replace(trained.inference(run.config.predict), limits=())
    matrices = {weight: ConfusionMatrix(1 + len(run.photos.classes)) for weight in weights}
    for photo in run.photos.lists["val"]:
        assert photo.mask is not None
        image, truth = photo.load(), photo.mask.load()
        values = np.array([0, *(tag + 1 for tag in photo.tags)], dtype=np.int64)
        found = pixel_probabilities(image, predict_probabilities(trained.network, image, settings), values, settings)
        pseudo = load_mask(run.pseudo_mask(photo))
        for weight, matrix in matrices.items():
            matrix.update(join(found, values, pseudo, weight), truth)
    for weight, matrix in matrices.items():
        print(f"pseudo_weight {weight:g}: {100 * matrix.miou:.1f}", (100 * matrix.iou).round().tolist())


if __name__ == "__main__":
    main(sys.argv[1], [float(word) for word in sys.argv[2:]] or [0, 1, 2, 4, 6])
