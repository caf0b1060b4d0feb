"""`cti export`: one run, or one folder that `cti label` wrote, in another format."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from cti.apps.export import FORMATS, Exported
from cti.apps.export.coco import export_coco
from cti.apps.export.fiftyone import export_fiftyone
from cti.apps.export.folder import refuse_existing
from cti.apps.export.imagefolder import export_imagefolder
from cti.apps.export.labelling import LabellingFormat, export_labelling
from cti.apps.export.overlays import export_overlays
from cti.apps.export.png import export_png
from cti.apps.export.sources import labelled_photos, submitted_photos
from cti.apps.export.voc import export_voc
from cti.apps.export.voc_submission import write_voc_submission
from cti.files import read_manifest, read_object
from cti.method.checkpoint import CONFIG
from cti.predict.annotations import Per, Shape

if TYPE_CHECKING:
    from cti.apps.export.onnx import OnnxExport

logger = logging.getLogger(__name__)

Stage = Literal["train", "masks", "pseudo", "segment"]

_FOLDERS = {
    "voc": export_voc,
    "imagefolder": export_imagefolder,
    "fiftyone": export_fiftyone,
    "overlays": export_overlays,
}
_USUAL_NAMES = {"coco": "coco.json", "voc-submission": "voc-submission.tar.gz"}


def export(
    run: Path | str,
    to: str,
    out: Path | str | None = None,
    *,
    stage: Stage | None = None,
    listed: str = "",
    images: Path | None = None,
    shape: Shape = "polygons",
    per: Per = "class",
    overwrite: bool = False,
) -> "Exported | dict[str, OnnxExport]":
    """Write what a run has made in another format.

    Args:
        run: Run folder; for masks also a folder that `cti label` wrote; for `onnx` also a saved network.
        to: One of `cti.apps.export.FORMATS`.
        out: File (`coco`, `voc-submission`) or folder to write; None = in `export/` of the run.
        stage: Whose result: for `onnx` `train` (CTI) or `segment`, None = both, as far as they have finished; for
            masks `masks` (None means these), `pseudo` or `segment`: see `labelled_photos`.
        listed: Name of a list of the run, or a file of photo ids, one a line; empty = every photo that has a mask.
        images: `voc-submission`: folder of the listed photos, where that is not the run's own.
        shape: `coco`: see `export_coco`.
        per: `coco`: see `export_coco`.
        overwrite: Replace what is there.

    Returns:
        What was written; for `onnx` by network.

    Raises:
        ValueError: if the run has not what is asked for, or something is there already; the message says what to do.
        FileNotFoundError: if photos are gone.
        ModuleNotFoundError: if the format's extra is not installed.
    """
    folder = Path(run)
    if to not in FORMATS:
        raise ValueError(f"There is no format '{to}'; give one of {', '.join(FORMATS)}.")
    if not folder.exists():
        raise FileNotFoundError(f"There is no run {folder}; check the name.")
    target = Path(out) if out is not None else folder / "export" / _USUAL_NAMES.get(to, to)
    result: Exported | dict[str, OnnxExport]
    if to == "onnx":
        refuse_existing(target, overwrite)
        result = _networks(folder, target, stage)
    elif to == "voc-submission":
        if stage not in (None, "segment"):
            raise ValueError("The masks of a submission are the segmenter's, which sees no tags; leave --stage out.")
        refuse_existing(target, overwrite)
        chosen = submitted_photos(folder, listed, images)
        result = write_voc_submission(chosen.masks, chosen.photos, target, chosen.classes)
    elif stage == "train":
        raise ValueError(f"The stage train has no masks to export as {to}; give masks, pseudo or segment.")
    else:
        chosen = labelled_photos(folder, stage, listed)
        refuse_existing(target, overwrite)
        what = (chosen.masks, chosen.photos, chosen.classes, target)
        if to == "png":
            result = export_png(*what, overwrite)
        elif to == "coco":
            result = export_coco(*what, shape, per)
        elif to in _FOLDERS:
            result = _FOLDERS[to](*what, chosen.lists, overwrite, chosen.reading)
        else:
            result = export_labelling(*what, cast(LabellingFormat, to), chosen.lists, overwrite)
    counts = f"{result}, " if isinstance(result, Exported) else ""
    logger.info("%s: %s%s; written to %s", to, counts, FORMATS[to], target)
    return result


def _networks(folder: Path, target: Path, stage: Stage | None) -> "dict[str, OnnxExport]":
    """ONNX graphs `cti.onnx` and `segmenter.onnx`, as far as there are such networks."""
    from cti.apps.export.onnx import export_onnx  # slow to import
    from cti.predict.predictor import Predictor, Use

    if stage in ("masks", "pseudo"):
        raise ValueError(f"The stage {stage} has no network to export as onnx; give train or segment.")
    uses: dict[str, Use] = {"train": "cti", "segment": "segmenter"}
    if (folder / CONFIG).is_file():
        kind = read_object(folder / CONFIG).get("type")
        if stage and uses[stage] != kind:
            raise ValueError(f"{folder} holds a network of the type '{kind}', not {stage}'s; leave --stage out.")
        wanted = [use for use in uses.values() if use == kind]
    elif stage:
        wanted = [uses[stage]]
    else:
        wanted = [use for name, use in uses.items() if read_manifest(folder / name) is not None]
    if not wanted:
        raise ValueError(f"{folder} holds no trained network to export; run `cti train` or `cti segment` first.")
    return {
        use: export_onnx(Predictor.from_pretrained(folder, use, device="cpu"), target / f"{use}.onnx") for use in wanted
    }
