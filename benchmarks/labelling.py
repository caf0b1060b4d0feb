"""What a photo costs `cti label` on one core, step by step, and what onnxruntime would change.

python -m benchmarks.labelling PHOTOS [--count 48] [--rounds 3]

The network is the segmenter of the recipe `own` with random weights (the same work as with trained ones). Costs are the
seconds of processor time of one thread, the least of several rounds, in which torch and onnxruntime take turns. At the
end of a round all photos are labelled, masks and pictures, one by one and as `cti label` does: processor time of all
threads, and the clock, which is more where the machine does other things.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="folder of photos; those of the most frequent size are taken")
    parser.add_argument("--count", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(arguments.photos), arguments.count, arguments.rounds, Path(folder))


def measure(place: Path, count: int, rounds: int, folder: Path) -> None:
    """Say after each round what each step costs a photo."""
    import numpy as np
    import onnxruntime
    import torch

    from cti.apps.export.onnx import export_onnx
    from cti.config import PredictConfig
    from cti.data.images import MAX_PIXELS, image_size, load_image, save_mask
    from cti.data.mask_records import file_digest
    from cti.predict.annotations import mask_annotations
    from cti.predict.batches import MOST_PHOTOS
    from cti.predict.labeller import Labeller, Photo
    from cti.predict.photos import find_photos
    from cti.predict.predictor import Predictor
    from cti.predict.segmenter import SegmenterAnalyser
    from cti.segment.checkpoint import TrainedSegmenter
    from cti.segment.networks import build_segmenter
    from cti.settings import load_config

    torch.manual_seed(0)
    config = load_config("own")
    backbone = config.model.backbone
    segment = replace(config.segment, backbone=backbone, weights="none")
    classes = tuple(f"class {number}" for number in range(8))
    trained = TrainedSegmenter(build_segmenter(segment, len(classes)).eval(), segment, PredictConfig(), classes)
    predictor = Predictor(SegmenterAnalyser(trained))
    by_size: dict[tuple[int, int], list[Path]] = defaultdict(list)
    for path in find_photos([place]).values():
        by_size[image_size(path)].append(path)
    size, paths = max(by_size.items(), key=lambda item: len(item[1]))
    paths = paths[:count]
    print(f"{len(paths)} photos of {size[1]} x {size[0]} pixels, {backbone}, {segment.network}, {segment.long_side} px")

    costs: dict[str, float] = defaultdict(lambda: float("inf"))

    def timed(name: str, work: Callable[[Any], T], items: Any, clock: Callable[[], float] = time.thread_time) -> T:
        started, by_clock = clock(), time.perf_counter()
        result = work(items)
        costs[name] = min(costs[name], (clock() - started) / len(paths))
        if clock is time.process_time:
            costs[f"{name}, clock"] = min(costs[f"{name}, clock"], (time.perf_counter() - by_clock) / len(paths))
        return result

    def batches(items: list[Any]) -> list[list[Any]]:
        return [items[start : start + MOST_PHOTOS] for start in range(0, len(items), MOST_PHOTOS)]

    def analysed(images: list[Any]) -> list[Any]:
        return [found for batch in batches(images) for found in predictor.analyser.analyse(batch, [""] * len(batch))]

    export_onnx(predictor, folder / "network.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "network.onnx", options, providers=["CPUExecutionProvider"])
    patch = trained.network.encoder.patch_size
    height, width = (round(side * segment.long_side / max(size) / patch) * patch for side in size)
    inputs = batches(list(torch.rand(len(paths), 3, height, width)))
    name = session.get_inputs()[0].name
    with torch.inference_mode():

        def on_torch(batches: list[list[Any]]) -> None:
            for batch in batches:  # as the graph: with the mirrored photos
                both = torch.stack(batch)
                trained.network(torch.cat([both, both.flip(-1)])).softmax(dim=1)

        def on_onnxruntime(batches: list[list[Any]]) -> None:
            for batch in batches:
                session.run(None, {name: np.stack([photo.numpy() for photo in batch])})

        def read(path: Path) -> Any:
            file_digest(path)
            return load_image(path)

        def decide(analysis: Any) -> Any:
            prediction = analysis.predict()
            prediction.shares()
            return prediction, prediction.confidence

        for number in range(rounds):
            images = timed("read: decode and digest", lambda paths: [read(path) for path in paths], paths)
            found = timed("network, with what is around it", analysed, images)
            masks = [mask for mask, _ in timed("mask and record", lambda found: [decide(one) for one in found], found)]
            timed("write PNG", lambda masks: [save_mask(folder / "mask.png", mask.mask) for mask in masks], masks)
            timed("write overlay", lambda masks: [mask.overlay().save(folder / "a.png") for mask in masks], masks)
            timed("run-length codes", lambda masks: [list(mask_annotations(mask.mask, "rle")) for mask in masks], masks)
            timed("network alone, torch", on_torch, inputs)
            timed("network alone, onnxruntime", on_onnxruntime, inputs)
            for kind, overlays in (("all", True), ("all but the picture", False)):
                labeller = Labeller(predictor.analyser, (), folder / "masks", None, overlays, MAX_PIXELS)
                photos = [Photo(path.stem, path, None) for path in paths]
                singly = [[photo] for photo in photos]
                timed(f"{kind}, one by one", partial(label_lots, labeller), singly, time.process_time)
                timed(f"{kind}, as label does", partial(label_lots, labeller), [photos], time.process_time)
            print(f"after {number + 1} of {rounds} rounds:", flush=True)
            for step, seconds in costs.items():
                print(f"{step:44} {1000 * seconds:8.1f} ms a photo", flush=True)


def label_lots(labeller: Any, lots: list[list[Any]]) -> None:
    for photos in lots:
        labeller.label(photos, lambda *_: None)


if __name__ == "__main__":
    main()
