"""The commands: each is a function whose signature and docstring make its options and help (`cti.arguments`).

What they need is imported when they are called, so that `cti COMMAND --help` is quick.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cti.apps.export import FORMATS
from cti.arguments import reads
from cti.config import Config

if TYPE_CHECKING:
    from cti.apps.ablate import AblationResult
    from cti.data.check_report import CheckReport
    from cti.evaluate.scores import RunScores
    from cti.pipeline import Results
    from cti.predict.label import LabelResult

logger = logging.getLogger(__name__)

Use = Literal["cti", "segmenter"]
MaskStage = Literal["masks", "pseudo", "segment"]
LastStage = Literal["first-look", "train", "seeds", "masks", "segment", "evaluate"]


def quickstart(*, out: str = "runs/quickstart", seed: int = 0) -> Any:
    """Run every stage on rendered shapes, from tags to a segmentation network; nothing is downloaded.

    Args:
        out: Folder of the run; finished stages in it are skipped.
        seed: Seed of training.
    """
    from cti.apps.quickstart import quickstart as shapes

    return shapes(Path(out), seed)


@reads("data", "train", "seeds", "runtime")
def run(
    config: Config, photos: str = "", *, from_: str = "", stop_after: LastStage | None = None, verify: bool = False
) -> "Results":
    """Run all stages: first look, train, seeds, masks, segment, evaluate, report.

    Finished stages are skipped, so call it again after an interruption. Settings come from a recipe (`--config own`,
    `shapes`, `voc12-animals`, `voc12`, `coco14`), a YAML file or the folder of an earlier run, changed by options.

    Args:
        config: The configuration.
        photos: Folder of photos and their tags (`data.root`); without --config, the recipe `own` is taken.
        from_: Run to begin with, in the new folder --out: what still fits is taken from it (hard links), the rest made.
            Its settings are taken too, where there is no --config.
        stop_after: Last stage to run; calling again goes on from there.
        verify: First look for files that were damaged or deleted since they were made; they are made again.
    """
    from cti import pipeline
    from cti.apps.summary import summary

    results = pipeline.run(config, from_ or None, verify, (stop_after or "").replace("-", "_"))
    for line in summary(config, results):
        logger.info("%s", line)
    return results


@reads("data", "model", "seeds", "runtime")
def first_look(config: Config) -> Any:
    """Learn a linear head on the frozen backbone: how well tags are known, and the first maps, in about a minute."""
    return _stage("first_look", config)


@reads("data", "model", "method", "train", "runtime")
def train(config: Config) -> Any:
    """Learn the classes from tags: train/, with the network, metrics and tag thresholds."""
    return _stage("train", config)


@reads("data", "seeds", "runtime")
def seeds(config: Config, *, official: str = "") -> Any:
    """Extract class activation maps of the tagged classes: seeds/PHOTO.npz.

    Args:
        config: The configuration.
        official: Checkpoint in the CTI authors' names to use instead of the run's own network.
    """
    from cti.run import Run
    from cti.seeds.stage import seeds as extract

    return extract(Run(config), official)


@reads("data", "masks", "runtime")
def masks(config: Config) -> Any:
    """Refine the seeds into pseudo-masks: masks/pseudo/PHOTO.png, which are the masks until there is a segmenter."""
    return _stage("masks", config)


@reads("data", "segment", "predict", "runtime")
def segment(config: Config) -> Any:
    """Train a segmentation network on the pseudo-masks, predict, and make the masks: segment/, masks/PHOTO.png."""
    return _stage("segment", config)


@reads("data", "evaluate", "runtime")
def evaluate(config: Config, *, official: str = "") -> "RunScores":
    """Score seeds, pseudo-masks, segmentations and masks where the photos have true masks: evaluate/.

    Args:
        config: The configuration.
        official: Checkpoint in the CTI authors' names, whose seeds are made first.
    """
    from cti.evaluate.stage import evaluate as score
    from cti.run import Run

    if official:
        seeds(replace(config, seeds=replace(config.seeds, lists=("score",))), official=official)
        config = replace(config, seeds=replace(config.seeds, lists=("score",)))
    return score(Run(config))


def report(run: str, *, out: str = "", photos: int = 48) -> dict[str, str]:
    """Write one page about a run, finished or not.

    Args:
        run: Run folder.
        out: File to write; default: report.html in the run folder.
        photos: Photos to show.
    """
    from cti.apps.report import write_report

    return {"report": str(write_report(Path(run), Path(out) if out else None, photos))}


def compare(runs: Sequence[str], *, out: str = "compare.html") -> dict[str, str]:
    """Write one page of several runs side by side.

    Args:
        runs: Run folders, the baseline first.
        out: File to write.
    """
    from cti.apps.report import compare_runs

    return {"report": str(compare_runs([Path(run) for run in runs], Path(out)))}


@reads("data", "train", "runtime")
def ablate(config: Config, grid: str, *, repeats: int = 0, only: Sequence[str] | None = None) -> "AblationResult":
    """Run a grid of changed settings over several seeds, and compare: OUT/ablate/GRID/, with table, plot and page.

    Runs that are done are skipped, so call it again after an interruption. First looks are shared where they are the
    same.

    Args:
        config: What the grid changes.
        grid: components, infusion-index, background, choices, or a YAML file.
        repeats: Seeds per variant; 0 = as many as the grid says.
        only: Variants to run; default: all. All that have been run are compared.
    """
    from cti.apps.ablate import ablate as run_grid

    return run_grid(grid, config, repeats, only or ())


def label(
    photos: Sequence[str],
    *,
    model: str,
    out: str = "labels",
    tags: Sequence[str] | None = None,
    labels: str = "",
    use: Use | None = None,
    threshold: float | Literal["free"] | None = None,
    shard: str = "",
    engine: Literal["local", "ray"] = "local",
    format: Literal["png", "parquet"] = "png",
    false_alarms: float | None = None,
    max_pixels: int = 100_000_000,
) -> "LabelResult":
    """Write a mask, and a picture of it, for every photo. Call it again after an interruption.

    Args:
        photos: Photos, folders of photos, patterns, tar archives (WebDataset), addresses (https://..., s3://...), or
            tables of paths or addresses (CSV or Parquet).
        model: Run folder, saved network, or id on the Hugging Face hub.
        out: Folder of the masks.
        tags: Classes that are in every one of these photos.
        labels: File of tags per photo, such as labels.csv.
        use: Which network; default: the segmenter if there is one.
        threshold: Background score from 0 to 1, or free = the background's own map; default: the run's.
        shard: Part i of n as i/n, counted from 0: only these photos, in OUT/i-of-n.
        engine: ray = workers on all cores or GPUs of this machine, or of a Ray cluster.
        format: parquet = masks as run-length codes in tables, with scores and confidence, and no other files per photo.
        false_alarms: Share of the photos held out without a class that may be said to show it; default: the run's
            predict.false_alarms.
        max_pixels: Largest photo; others are skipped.
    """
    from cti.predict.label import label as label_photos
    from cti.predict.shard import Shard

    part = Shard.parse(shard) if shard else None
    return label_photos(
        photos, model, out, tags, labels or None, use, threshold,
        max_pixels=max_pixels, shard=part, false_alarms=false_alarms, engine=engine, format=format,
    )  # fmt: skip


def serve(
    run: str,
    *,
    folder: str = "",
    out: str = "",
    use: Use | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    photo: str = "",
    open_: bool = False,
    max_upload_mb: float = 20,
    max_pixels: int = 25_000_000,
) -> None:
    """Serve a web page to look through a run, to correct its masks and to try it on other photos, until Ctrl-C.

    Args:
        run: Run folder, saved network, or id on the Hugging Face hub.
        folder: Folder of photos to review; default: those of the run, first what the segmenter learns most from.
        out: Where the review is kept; default: FOLDER_review.
        use: Which network; default: the segmenter if there is one.
        host: Address to listen on; anybody who can reach it can use the page.
        port: Port to listen on; the next free one if it is taken.
        photo: Photo of the run to show first.
        open_: Open the page in the browser.
        max_upload_mb: Largest photo file.
        max_pixels: Largest photo.
    """
    from cti.apps.web import serve as serve_run
    from cti.apps.web.guards import Limits

    serve_run(
        run,
        host=host,
        port=port,
        folder=Path(folder) if folder else None,
        out=Path(out) if out else None,
        use=use,
        limits=Limits(max_upload_mb, max_pixels),
        photo=photo or None,
        in_browser=open_,
    )


def review(run: str, source: str, *, partial: bool = False) -> Any:
    """Take masks that were corrected elsewhere into RUN/review, for `cti run --config RUN` to learn from.

    Args:
        run: Run folder.
        source: Folder of indexed PNG, labelme, YOLO or COCO files, or one COCO file, called as their photos.
        partial: Only what is painted is known, as in scribbles; otherwise the rest is background.
    """
    from cti.apps.review import import_review

    return import_review(run, source, partial)


@reads("data")
def check(config: Config, path: str = "", *, fix: str = "") -> "CheckReport":
    """Decode every photo and mask once and say what is wrong; exit code 1 if training would stop.

    Args:
        config: The configuration, of which `data` is read.
        path: Data folder; default: data.root, else the environment variable CTI_DATA.
        fix: New file to write the tags to as a clean table, misspelt classes mended as suggested; its name is relative
            to the data folder, and `clean.csv` if none is given.
    """
    from rich.console import Console

    from cti.data import read_photos
    from cti.data.check import check_data
    from cti.data.check_report import print_report
    from cti.data.clean import write_clean_table
    from cti.data.read import data_root

    data = replace(config.data, root=path or config.data.root)
    photo_set = read_photos(data)
    table = data_root(data) / fix
    if fix and table.exists():
        raise ValueError(f"{table} is there already; give --fix another name.")
    report = check_data(photo_set, max_broken=data.max_broken, max_pixels=data.max_pixels)
    print_report(report, Console(stderr=True))
    if fix:
        count = write_clean_table(photo_set, table, report.suggestions)
        logger.info("%d photos and their tags are written to %s; take it with --data.labels %s.", count, table, fix)
    return report


def prepare(name: Literal["voc12", "coco14"], *, root: str) -> dict[str, str]:
    """Unpack and convert the archives of PASCAL VOC 2012 with SBD, or of COCO 2014.

    Args:
        name: The data set.
        root: Folder of the archives and of the result.
    """
    from cti.data.prepare import prepare as convert

    return {"root": str(convert(name, Path(root)))}


def export_coco(
    run: str,
    *,
    out: str = "",
    stage: MaskStage | None = None,
    list_: str = "",
    shape: Literal["polygons", "rle"] = "polygons",
    per: Literal["class", "component"] = "class",
    overwrite: bool = False,
) -> Any:
    """Write one COCO JSON.

    Args:
        run: Run folder, or folder that `cti label` wrote.
        out: File to write; default: in export/ of the run.
        stage: The run's masks (default), its pseudo-masks, or what its segmenter predicts without tags.
        list_: List of the run, or file of photo ids; default: all photos with a mask.
        shape: How regions are written.
        per: What becomes one annotation.
        overwrite: Replace what is there.
    """
    return _export(run, "coco", out, stage=stage, listed=list_, shape=shape, per=per, overwrite=overwrite)


def _mask_export(to: str) -> Callable[..., Any]:
    """The command for a format that needs to know nothing but which masks."""

    def command(
        run: str, *, out: str = "", stage: MaskStage | None = None, list_: str = "", overwrite: bool = False
    ) -> Any:
        return _export(run, to, out, stage=stage, listed=list_, overwrite=overwrite)

    command.__doc__ = f"""Write {FORMATS[to]}.

    Args:
        run: Run folder, or folder that `cti label` wrote.
        out: Folder to write; default: in export/ of the run.
        stage: The run's masks (default), its pseudo-masks, or what its segmenter predicts without tags.
        list_: List of the run, or file of photo ids; default: all photos with a mask.
        overwrite: Replace what is there.
    """
    return command


export_png = _mask_export("png")
export_voc = _mask_export("voc")
export_imagefolder = _mask_export("imagefolder")
export_fiftyone = _mask_export("fiftyone")
export_overlays = _mask_export("overlays")
export_yolo = _mask_export("yolo")
export_pascal_voc = _mask_export("pascal-voc")
export_labelme = _mask_export("labelme")


def export_voc_submission(run: str, *, list_: str, out: str = "", photos: str = "", overwrite: bool = False) -> Any:
    """Write the archive that the PASCAL VOC server takes.

    Args:
        run: Run folder.
        list_: List of the run, or file of photo ids, such as ImageSets/Segmentation/test.txt.
        out: File to write; default: in export/ of the run.
        photos: Folder of listed photos that are not the run's.
        overwrite: Replace what is there.
    """
    images = Path(photos) if photos else None
    return _export(run, "voc-submission", out, listed=list_, images=images, overwrite=overwrite)


def export_onnx(
    run: str, *, out: str = "", stage: Literal["train", "segment"] | None = None, overwrite: bool = False
) -> Any:
    """Write the networks for onnxruntime.

    Args:
        run: Run folder, or saved network.
        out: Folder to write; default: in export/ of the run.
        stage: Whose network; default: every one that has finished.
        overwrite: Replace what is there.
    """
    return _export(run, "onnx", out, stage=stage, overwrite=overwrite)


def _stage(name: str, config: Config) -> Any:
    from cti.pipeline import STAGES
    from cti.run import Run

    return STAGES[name](Run(config))


def _export(run: str, to: str, out: str, **options: Any) -> Any:
    from cti.apps.export.run import export

    return export(run, to, out or None, **options)
