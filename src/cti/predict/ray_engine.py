"""`cti label --engine ray`: the photos are shared out among workers of Ray, on one machine or many.

The workers write the masks; what is known of a photo comes back to the process that called, which alone keeps the
books. So a worker may die, and its photos are labelled again by another, and the caller may die, and calling again goes
on: in both cases a photo that was not yet told of is written once more, under the same name.
"""

import logging
import os
import pickle
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cti.data.batches import parts
from cti.device import default_device
from cti.predict.labeller import Labeller, Outcome, Photo, Report

_CHUNK = 64  # photos that a worker is given at a time: as many as `in_batches` sorts
_RETRIES = 3  # of a chunk whose worker died: one of its photos may be what kills


def label_on_ray(labeller: Labeller, photos: Sequence[Photo], report: Report) -> None:
    """Do what `labeller.label` does, with one worker per GPU, or per core where there is none.

    It joins the cluster that `RAY_ADDRESS` or `ray.init` names, else it uses this machine. The workers need cti, and
    see photos and folder under the same paths as the caller.

    Args:
        labeller: Copied to every worker.
        photos: To label.
        report: Called once for each photo, from this thread.

    Raises:
        ModuleNotFoundError: without Ray.
        OSError: if a mask cannot be written, or workers died again and again.
    """
    ray = load_ray()
    if not photos:
        return
    ours = not ray.is_initialized()
    if ours:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    try:
        for outcomes in _outcomes(ray, labeller, photos):
            for photo, outcome in outcomes:
                report(photo, outcome)
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()[-1]
        raise OSError(f"Ray gave up ({why}); call again with the same words: what is done is kept.") from error
    finally:
        if ours:
            ray.shutdown()


def _outcomes(ray: Any, labeller: Labeller, photos: Sequence[Photo]) -> Iterator[list[tuple[Photo, Outcome]]]:
    """What became of each chunk of photos, as the workers finish them."""
    chunks = [{"photos": pickle.dumps(chunk)} for chunk in parts(photos, _CHUNK)]
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    workers = min(gpus or int(resources.get("CPU", 1)), len(chunks))
    ray.data.DataContext.get_current().enable_progress_bars = False  # `label` has one
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    folder = labeller.folder.resolve() if labeller.folder else None
    labeller.analyser.network.to("cpu")  # a worker may have another device, or none
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*ray_remote_args.*")  # where the number of retries is said
        done = ray.data.from_items(chunks, override_num_blocks=len(chunks)).map_batches(
            _Worker,
            fn_constructor_args=(replace(labeller, folder=folder), str(Path.cwd())),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
            max_task_retries=_RETRIES,
        )
    for row in done.iter_rows():
        outcomes = pickle.loads(row["outcomes"])
        if isinstance(outcomes, Exception):
            raise outcomes
        yield outcomes


class _Worker:
    """A process of Ray that holds the network."""

    def __init__(self, labeller: Labeller, folder: str) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)  # the caller's, to which photos are relative
        self._labeller = labeller
        labeller.analyser.network.to(default_device())

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Label the photos of the chunks; what a local labeller would raise is handed over as it is."""
        answers: list[bytes] = []
        for chunk in batch["photos"]:
            outcomes: list[tuple[Photo, Outcome]] = []
            try:
                self._labeller.label(pickle.loads(chunk), lambda *outcome: outcomes.append(outcome))  # noqa: B023
                answers.append(pickle.dumps(outcomes))
            except (OSError, ValueError) as error:
                answers.append(pickle.dumps(error))
        return {"outcomes": answers}


def load_ray() -> Any:
    """Ray with its data sets.

    Raises:
        ModuleNotFoundError: without it.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody who labels photos expects to be counted
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it warns of what this engine does on purpose
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('The engine ray needs Ray: pip install "cti[ray]".') from error
    return ray
