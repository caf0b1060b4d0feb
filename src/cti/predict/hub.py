"""Sharing a network the Hugging Face way: what its model card says, and the way to and from the hub."""

import re
from dataclasses import dataclass
from pathlib import Path

import timm
from huggingface_hub import HfApi, ModelCard, ModelCardData, snapshot_download

from cti.evaluate.scores import ClassScores, ListScores, RunScores
from cti.evaluate.tags import read_tags
from cti.files import MANIFEST, JsonObject, from_json, read_manifest
from cti.method.checkpoint import CONFIG
from cti.tables import Table, row, to_markdown

PAPER = "Yoon, Kwon, Kim, Yoon: Class Tokens Infusion for Weakly Supervised Semantic Segmentation, CVPR 2024"
_REPO_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_FILES = ["config.json", "model.safetensors", "README.md"]


def download(repo_id: str) -> Path:
    """The folder of a network that lies on the hub, from the local cache where it is there already.

    Raises:
        FileNotFoundError: if `repo_id` can be nothing but a path, of something that is not here.
        ValueError: if it names neither a folder here nor a repository that can be had.
    """
    if not _REPO_ID.fullmatch(repo_id):
        raise FileNotFoundError(f"No such file or folder: {repo_id}")
    try:
        return Path(snapshot_download(repo_id, allow_patterns=_FILES))
    except Exception as error:  # the HTTP library behind it, and so its errors, changes with the hub's version
        raise ValueError(
            f"'{repo_id}' is no folder here, and the Hugging Face hub did not give a network of that name "
            f"({type(error).__name__}); check the path, or the name and the connection."
        ) from error


def push_folder(folder: Path, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a saved network; the repository is made if absent.

    Returns:
        Its address.

    Raises:
        ValueError: if the hub cannot be reached or refuses.
    """
    api = HfApi(token=token)
    try:
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload network")
    except Exception as error:  # see `download`
        raise ValueError(
            f"'{repo_id}' was not published: {type(error).__name__} from the Hugging Face hub; log in with "
            "`hf auth login`, and check the name and the connection."
        ) from error
    return str(address)


@dataclass(frozen=True)
class ScoreLine:
    """A score in a model card.

    Args:
        what: What was scored: `seed` or `segmentation`.
        photos: The list of photos.
        protocol: How the score was taken.
        miou: Mean IoU, a fraction.
    """

    what: str
    photos: str
    protocol: str
    miou: float


@dataclass(frozen=True)
class About:
    """What a model card says about a network, gathered while its run is at hand; empty or None where nobody knows.

    Args:
        backbone: Name of the backbone.
        weights: What the backbone started from: `timm`, `smp`, `none` or the name of a file.
        licence: Licence of the backbone's weights.
        photos: Photos it was trained on.
        real_masks: Whether it was trained on pixel labels.
        tag_map: Mean average precision of its tags on photos not trained on.
        tag_f1: Mean F1 of its tags at thresholds chosen on the same photos.
        scores: Scores of what it makes.
    """

    backbone: str = ""
    weights: str = ""
    licence: str = ""
    photos: int | None = None
    real_masks: bool = False
    tag_map: float | None = None
    tag_f1: float | None = None
    scores: tuple[ScoreLine, ...] = ()


def about_network(folder: Path, description: JsonObject) -> About:
    """What a model card says about a network: what it carries with it, or else what its run knows.

    Args:
        folder: Folder of the network; a stage's, or one that `save_pretrained` wrote.
        description: The network's `config.json`.

    Raises:
        ValueError: if it was written by another version.
    """
    if "about" in description:
        return from_json(About, description["about"], folder / CONFIG)
    return about_run(folder.parent, folder.name, description)


def about_run(run: Path, stage: str, description: JsonObject) -> About:
    """Gather what a model card says about a network from its run.

    Args:
        run: The run folder.
        stage: `train` (CTI) or `segment`.
        description: The network's `config.json`.

    Raises:
        ValueError: if the scores were written by another version.
    """
    settings = description.get("model") or description.get("segment") or {}
    if not isinstance(settings, dict):
        raise ValueError(f"{run / stage / CONFIG} was not written by this version of cti; make it again.")
    network = str(settings.get("network", ""))
    smp = network.startswith("smp:")
    backbone = network.split(":")[2] if smp else settings.get("backbone", "")
    weights = str(settings.get("weights", ""))
    training = read_manifest(run / stage)
    evaluation = read_manifest(run / "evaluate")
    lists = {}
    if evaluation is not None:
        lists = from_json(RunScores, evaluation["result"], run / "evaluate" / MANIFEST).lists
    tags = read_tags(run / stage)
    return About(
        backbone=backbone,
        # No paths of this machine; for `smp:` "timm" stands for that library's own ImageNet weights.
        weights={"timm": "smp"}.get(weights, weights) if smp and not Path(weights).suffix else Path(weights).name,
        licence=_licence(backbone) if weights == "timm" and not smp else "",
        photos=training["result"].get("photos") if training else None,
        real_masks=settings.get("masks") == "real",
        tag_map=None if tags is None else tags.mean_average_precision,
        tag_f1=None if tags is None else tags.mean_f1,
        scores=tuple(line for name, scores in lists.items() for line in _score_lines(scores, stage, name)),
    )


def model_card(description: JsonObject, about: About, name: str = "FOLDER") -> str:
    """The `README.md` of a network, with the metadata the hub reads.

    Args:
        description: Its `config.json`.
        about: What else is known about it.
        name: What to give to `from_pretrained`.
    """
    classes = description["classes"]
    segmenter = description.get("type") == "segmenter"
    metadata = ModelCardData(
        library_name="cti",
        pipeline_tag="image-segmentation",
        license=about.licence or None,
        tags=["weakly-supervised-semantic-segmentation", "class-token-infusion"],
    )
    what = (
        "A segmentation network, trained on "
        + ("pixel labels." if about.real_masks else "masks that Class Token Infusion made from image-level tags.")
        if segmenter
        else "A Class Token Infusion (CTI) network: a vision transformer, trained on image-level tags, whose class "
        "tokens say where each class is."
    )
    use = (
        "prediction = predictor('photo.jpg')"
        if segmenter
        else f"prediction = predictor('photo.jpg', tags=['{classes[0]}'])  # without tags they are predicted"
    )
    sections = [
        f"---\n{metadata.to_yaml()}\n---",
        f"# {'Segmenter' if segmenter else 'CTI'} for {len(classes)} classes",
        what,
        "## Use",
        "```python\nfrom cti import Predictor\n\n"
        f"predictor = Predictor.from_pretrained('{name}')\n{use}\n"
        "prediction.save('out')\n```",
        "## Classes",
        ", ".join(f"{index} {name}" for index, name in enumerate(("background", *classes))) + ".",
        "## Training data",
        _data_text(about),
        "## Scores",
        _scores_text(about),
        "## Licence of the backbone",
        _licence_text(about),
        "## Source",
        PAPER + ".",
    ]
    return str(ModelCard("\n\n".join(sections) + "\n"))


def _data_text(about: About) -> str:
    if not about.photos:
        return "Not recorded."
    kind = "with pixel labels" if about.real_masks else "with image-level tags; no pixel label was used"
    return f"{about.photos} photos {kind}."


def _scores_text(about: About) -> str:
    parts = []
    if about.tag_map is not None:
        f1 = "" if about.tag_f1 is None else f", F1 {about.tag_f1:.3f} at thresholds chosen on the same photos"
        parts.append(f"Tags of photos not trained on: mAP {about.tag_map:.3f}{f1}.")
    if about.scores:
        rows = (row(line.what, line.photos, line.protocol, f"{line.miou:.3f}") for line in about.scores)
        note = "mIoU is a fraction over the background and all classes, of the whole list."
        parts.append(to_markdown(Table("", ("what", "photos", "protocol", "mIoU"), tuple(rows), note=note)))
    return "\n\n".join(parts) or "None were taken."


def _licence_text(about: About) -> str:
    backbone, weights, licence = about.backbone, about.weights, about.licence
    if weights == "none":
        return "The backbone was trained from scratch; there are no pre-trained weights."
    if weights == "timm":
        return f"Started from timm's weights of {backbone}, licence: {licence or 'not stated by timm; look it up'}."
    if weights == "smp":
        return f"Started from the ImageNet weights of {backbone} in segmentation-models-pytorch; look up their licence."
    if weights:
        return f"Started from the local file {weights} for {backbone}; the licence of that file applies."
    return "Not recorded."


def _licence(backbone: str) -> str:
    metadata = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    return str(getattr(metadata, "license", "") or "")


def _score_lines(scores: ListScores, stage: str, name: str) -> list[ScoreLine]:
    """Scores of one list, each with how it was taken."""
    lines: list[tuple[str, str, ClassScores]] = []
    if stage == "segment":
        for variant, masks in scores.segment.items():
            lines.append(("segmentation", f"no tags given; {_variant(variant)}", masks.as_background))
    else:
        for kinds, tags in ((scores.seeds, "true tags given"), (scores.seeds_predicted_tags, "predicted tags")):
            for seeds in list(kinds.values())[:1]:
                lines.append(("seed", f"{tags}; fixed threshold {seeds.threshold:.2f}", seeds.fixed))
                chosen = f"{tags}; threshold {seeds.best_threshold:.2f}, chosen on these masks"
                lines.append(("seed", chosen, seeds.best))
                if seeds.threshold_free is not None:
                    lines.append(("seed", f"{tags}; background CAM, no threshold", seeds.threshold_free))
    return [ScoreLine(what, name, protocol, line.miou) for what, protocol, line in lines if line.miou is not None]


def _variant(variant: str) -> str:
    scale = "several scales" if variant.startswith("multi-scale") else "one scale"
    return f"{scale}, {'with' if variant.endswith('+crf') else 'without'} CRF"
