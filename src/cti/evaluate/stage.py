"""The stage `evaluate`: seeds, pseudo-masks and segmentations against true masks, as numbers, tables and a picture."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from cti.data import load_mask
from cti.data.fingerprint import mask_fingerprint
from cti.data.mask_records import MADE_WITH, absent_sentences, read_records
from cti.data.seed_file import read_seed
from cti.evaluate.gain import gains
from cti.evaluate.labels import label_pixels
from cti.evaluate.list_scores import ResultFolders, score_list
from cti.evaluate.scores import ListScores, RunScores
from cti.evaluate.segment_tags import count_alarms, score_known
from cti.evaluate.tables import list_tables, tag_table
from cti.evaluate.tags import TagScores, read_tags
from cti.evaluate.verdict import layers, make_verdict
from cti.files import JsonObject, read_manifest, read_object
from cti.masks.steps import step_names
from cti.run import Run, split_by_file
from cti.tables import to_rich
from cti.visualize import PanelRow, panel_row, save_panels

logger = logging.getLogger(__name__)

PICTURE = "panels.png"
NUM_PANELS = 8


def evaluate(run: Run) -> RunScores:
    """Score whatever the run has made, where the photos have masks: evaluate/, with numbers, panels and verdict.

    Raises:
        ValueError: if the run has made nothing that could be scored.
    """
    manifests = {name: read_manifest(run.stage_folder(name)) for name in ("seeds", "masks", "segment")}
    made = {name: manifest["finished"] for name, manifest in manifests.items() if manifest}
    if not made:
        raise ValueError(f"{run.folder} has no finished seeds, masks or segment, so there is nothing to score.")
    truth = mask_fingerprint(run.photos, run.check)
    path = run.stage_folder("masks") / MADE_WITH  # what the masks were made with, not today's settings
    joined = read_object(path) if path.is_file() else {}
    more: JsonObject = {"made": made, "truth": truth, "variants": run.config.predict.variants}
    more |= {name: joined.get(name) for name in ("pseudo_weight", "inference")}
    with run.stage("evaluate", (), **more) as stage:
        return stage.result(RunScores) if stage.finished else stage.finish(score_run(run, stage.folder))


def score_run(run: Run, folder: Path) -> RunScores:
    """Score every finished stage on the lists `score` and `val`, print tables, draw panels, say what to doubt.

    Args:
        run: The run; photos with a true mask are scored, and those without a tag.
        folder: Gets the picture.
    """
    folders, lists = result_folders(run), dict[str, ListScores]()
    if not run.photos.has_masks:
        logger.warning("These photos have no masks, so nothing is scored against them; look at %s.", folder / PICTURE)
    trained = {photo.id for photo in run.photos.lists["train"]}
    known = read_records(run.stage_folder("masks"))
    for name in ("score", "val"):
        photos = run.photos.lists[name]
        scores = score_list(
            folders, photos, run.photos.classes, run.config.seeds.kinds,
            threshold=run.config.evaluate.threshold, bootstrap=run.config.evaluate.bootstrap,
        )  # fmt: skip
        if run.finished("segment"):
            unseen = [photo for photo in photos if photo.id not in trained]
            tags = score_known(known, unseen, run.photos.classes)
            scores = replace(scores, segment_tags=tags, segment_alarms=count_alarms(known, unseen))
        if scores != ListScores():
            lists[name] = scores
    print_tables(read_tags(run.stage_folder("train")), lists)
    make_verdict(run)
    rows = panel_rows(run)
    if rows:
        save_panels(folder / PICTURE, rows, run.photos.classes)
    remarks = (*absent_sentences(known, run.photos.classes), *review_sentences(run, lists))
    gained = tuple(map(str, gains(run)))
    return RunScores(run.photos.classes, lists, str(folder / PICTURE) if rows else None, remarks, gained)


def review_sentences(run: Run, lists: Iterable[str]) -> Iterator[str]:
    """A sentence about each list of whose scored photos some were reviewed, for their masks are then a person's."""
    for name in lists:
        scored = [photo for photo in run.photos.lists[name] if photo.mask is not None]
        count = sum((run.review / f"{photo.id}.png").is_file() for photo in scored)
        if count:
            yield (
                f"{count} of {len(scored)} photos of the list {name} were reviewed, so pseudo-masks and masks score "
                "better there than they are; the segmentation sees no review."
            )


def result_folders(run: Run) -> ResultFolders:
    """The folders of the stages of a run that have finished."""
    seeds, masks, segment = (run.finished(stage) for stage in ("seeds", "masks", "segment"))
    return ResultFolders(
        seeds=run.stage_folder("seeds") if seeds else None,
        predicted_seeds=run.predicted_seeds if seeds else None,
        pseudo_masks=run.pseudo_masks if masks else None,
        steps={step: run.step_masks(step) for step in step_names(run.config.masks)} if masks else {},
        segment={variant: run.predictions(variant) for variant in run.config.predict.variants} if segment else {},
        masks=run.stage_folder("masks") if segment else None,
    )


def print_tables(tags: TagScores | None, lists: Mapping[str, ListScores]) -> None:
    """Print the scores on the terminal; details too where debug messages are logged (`--verbose`)."""
    console, details = Console(stderr=True), logger.isEnabledFor(logging.DEBUG)
    if tags is not None:
        console.print(to_rich(tag_table(tags)))
    for name, scores in lists.items():
        for table in list_tables(scores, name):
            if details or not table.folded:
                console.print(to_rich(table))


def panel_rows(run: Run) -> list[PanelRow]:
    """Rows of photos spread evenly over the photos not trained on (or, without any, over all)."""
    photos = run.photos.lists["val"] or run.photos.photos()
    candidates, _ = split_by_file(photos, [run.seed(photo) for photo in photos])
    chosen = [candidates[i] for i in np.linspace(0, len(candidates) - 1, min(NUM_PANELS, len(candidates))).astype(int)]
    rows = []
    for photo in chosen:
        seed = read_seed(run.seed(photo))
        masks = {name: load_mask(path) for name, path in layers(run, photo).items()}
        if not run.finished("segment"):
            masks.pop("mask", None)  # it is the pseudo-mask
        if photo.mask is not None:
            masks["truth"] = photo.mask.load()
        cams = seed.cams()
        masks["seed"] = label_pixels(cams, seed.class_indices, run.config.evaluate.threshold)
        rows.append(
            panel_row(
                photo.load(),
                run.photos.classes,
                masks,
                name=photo.id,
                cams=cams,
                class_indices=seed.class_indices,
                background_cam=seed.background_cam(),
            )
        )
    return rows
