"""The chain of steps: built once, then applied to a stream of photos."""

import dataclasses
import hashlib
import json
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from cti.config import MasksConfig, OverlapConfig
from cti.data.photos import Photo
from cti.masks.affinity_labels import confident_labels, confident_labels_crf, to_grid
from cti.masks.affinity_train import AffinityStep, Sample, load_affinity, save_affinity, train_affinity
from cti.masks.crf import crf_step, load_library, needs_library
from cti.masks.features import FeatureCache, Features
from cti.masks.pamr import pamr_step
from cti.masks.resolve_overlap import resolve_overlap
from cti.masks.scores import start_scores
from cti.masks.seed_folder import SeedFolder


@dataclass(frozen=True)
class Refined:
    """One photo on its way through the chain.

    Args:
        photo: The photo.
        image: (H, W, 3) RGB.
        class_indices: 0-based foreground classes of the scores' channels 1, 2, ...
        scores: What each step made of it, in order: `seed`, then e.g. `affinity`, `affinity+crf`; (1+n, H, W) each.
    """

    photo: Photo
    image: NDArray[np.uint8]
    class_indices: tuple[int, ...]
    scores: dict[str, NDArray[np.float32]]

    @property
    def final(self) -> NDArray[np.float32]:
        """The last step's scores."""
        return next(reversed(self.scores.values()))


Step = Callable[[Refined], NDArray[np.float32]]
"""A photo on its way -> refined scores, (1+n, H, W) in [0, 1]."""


@dataclass(frozen=True)
class PixelStep:
    """A step that looks at the image and the scores alone.

    Args:
        function: Image (H, W, 3) uint8 and scores (1+n, H, W) in [0, 1] -> refined scores.
    """

    function: Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.float32]]

    def __call__(self, refined: Refined) -> NDArray[np.float32]:
        """Refine the scores of the step before."""
        return self.function(refined.image, refined.final)


@dataclass(frozen=True)
class OverlapStep:
    """The step that looks at another kind of the photo's seed.

    Args:
        seeds: Seeds of that kind.
        config: How sharply the best class takes all.
    """

    seeds: SeedFolder
    config: OverlapConfig

    def __call__(self, refined: Refined) -> NDArray[np.float32]:
        """Decide between the photo's classes."""
        return resolve_overlap(refined.final, self.seeds(refined.photo.id).cams().numpy(), self.config)


def refine_photos(
    photos: Iterable[Photo], seeds: SeedFolder, config: MasksConfig, steps: Sequence[Step], workers: int = 0
) -> Iterator[Refined]:
    """Refine photos one after the other, keeping every step's scores, so that each step can be scored by itself.

    Args:
        photos: Photos that have a seed.
        seeds: Their seeds.
        config: Names of the steps.
        steps: From `build_steps`, or the first few of them.
        workers: Processes of the dense CRF; 0 = none besides the calling one.

    Yields:
        The photos in their order. Dense CRFs run some photos ahead in worker processes.

    Raises:
        ValueError: if a seed is of another size than its photo, or a file is broken.
    """
    stream: Iterator[Refined] = (_start(photo, seeds, config) for photo in photos)
    for number, step in enumerate(steps):
        name = step_names(config)[number + 1]
        if config.steps[number] == "crf" and workers > 0:
            assert isinstance(step, PixelStep)
            stream = _in_processes(step, name, stream, workers)
        else:
            stream = _in_turn(step, name, stream)
    return stream


def step_names(config: MasksConfig) -> list[str]:
    """What each stage of the chain is called: `seed`, then e.g. `affinity`, `affinity+crf`."""
    return ["seed", *("+".join(config.steps[: number + 1]) for number in range(len(config.steps)))]


def build_steps(
    photos: Sequence[Photo],
    seeds: SeedFolder,
    config: MasksConfig,
    folder: Path,
    features: Features | None = None,
    progress: bool = True,
) -> list[Step]:
    """Make the chain's steps; the affinity head is trained here, unless `folder` has it already.

    Args:
        photos: Photos with seeds to learn affinity from.
        seeds: Their seeds.
        config: Names of the steps and their numbers.
        folder: Keeps the trained head (`affinity.safetensors`) and, in `features/`, the
            backbone's features of every photo seen, which can be deleted when all is done.
        features: The frozen backbone; only `affinity` needs it.
        progress: Show bars.

    Returns:
        One callable per name in `config.steps`.

    Raises:
        ModuleNotFoundError: if `crf` is asked for and not installed.
        ValueError: if `affinity` is asked for without `features`, or cannot be learned.
    """
    if needs_library(config):
        load_library()  # say now, not after the head's training, that it is missing
    steps: list[Step] = []
    for number, name in enumerate(config.steps):
        if name == "resolve_overlap":
            steps.append(
                OverlapStep(
                    SeedFolder(seeds.folder, seeds.classes, config.resolve_overlap.kind), config.resolve_overlap
                )
            )
        elif name == "pamr":
            steps.append(PixelStep(partial(pamr_step, config=config.pamr)))
        elif name == "crf":
            steps.append(PixelStep(partial(crf_step, config=config.crf)))
        else:
            if features is None:
                raise ValueError(
                    "The affinity step needs the features of a trained backbone and got none; "
                    "give the run's CTI model, or use masks.steps [pamr]."
                )
            cache = FeatureCache(features, folder / "features")
            path = folder / "affinity.safetensors"
            fingerprint = _fingerprint(photos, seeds, config, number)
            net = load_affinity(path, fingerprint)
            if net is None:
                before = refine_photos(photos, seeds, config, steps)
                if progress:
                    before = iter(track(before, "confident pixels", total=len(photos), console=Console(stderr=True)))
                net = train_affinity([_sample(refined, config) for refined in before], cache, config.affinity, progress)
                save_affinity(net, path, fingerprint)
            steps.append(PixelStep(AffinityStep(net, cache)))
    return steps


def read_rgb(photo: Photo) -> NDArray[np.uint8]:
    """The photo, upright, (H, W, 3) uint8."""
    return np.asarray(photo.load())


def _start(photo: Photo, seeds: SeedFolder, config: MasksConfig) -> Refined:
    image, seed = read_rgb(photo), seeds(photo.id)
    if image.shape[:2] != seed.size:
        raise ValueError(
            f"The seed of photo {photo.id} is for {seed.size[1]} x {seed.size[0]} pixels, but {photo.image} has "
            f"{image.shape[1]} x {image.shape[0]}; delete {seeds.folder} and make the seeds again with `cti seeds`."
        )
    return Refined(photo, image, seed.class_indices, {"seed": start_scores(seed, config)})


def _with_scores(item: Refined, name: str, scores: NDArray[np.float32]) -> Refined:
    return dataclasses.replace(item, scores={**item.scores, name: scores})


def _in_turn(step: Step, name: str, stream: Iterator[Refined]) -> Iterator[Refined]:
    for item in stream:
        yield _with_scores(item, name, step(item))


def _in_processes(step: PixelStep, name: str, stream: Iterator[Refined], workers: int) -> Iterator[Refined]:
    """As `_in_turn`, with a few photos ahead in worker processes."""
    # Forking a process that runs torch's threads can hang; spawned ones import only what the step needs.
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    waiting: deque[tuple[Refined, Future[NDArray[np.float32]]]] = deque()
    try:
        for item in stream:
            waiting.append((item, pool.submit(step.function, item.image, item.final)))
            if len(waiting) > 2 * workers:
                first, future = waiting.popleft()
                yield _with_scores(first, name, future.result())
        while waiting:
            first, future = waiting.popleft()
            yield _with_scores(first, name, future.result())
    finally:
        pool.shutdown(cancel_futures=True)


def _sample(refined: Refined, config: MasksConfig) -> Sample:
    """The photo's confident labels on the grid, from cleaned scores."""
    image, scores = refined.image, refined.final
    if config.affinity.clean == "pamr":
        labels = confident_labels(pamr_step(image, scores, config.pamr), config.affinity)
    elif config.affinity.clean == "crf":
        labels = confident_labels_crf(image, scores, config)
    else:
        labels = confident_labels(scores, config.affinity)
    return Sample(partial(read_rgb, refined.photo), to_grid(labels, config.affinity.stride))


def _fingerprint(photos: Sequence[Photo], seeds: SeedFolder, config: MasksConfig, number: int) -> str:
    """Digest of everything that shapes the affinity head of step `number`."""
    shaping = [getattr(config, name) for name in ("kind", "background_score", "threshold", "alpha", "affinity")]
    before = config.steps[:number]
    used = {*before, config.affinity.clean}
    shaping += [before, *(getattr(config, name) if name in used else None for name in ("pamr", "crf"))]
    shaping += [config.resolve_overlap] if "resolve_overlap" in used else []
    facts = json.dumps([repr(shaping), [photo.id for photo in photos], seeds.identity])
    return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()
