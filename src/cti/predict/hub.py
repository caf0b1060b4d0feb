"""Sharing a network the Hugging Face way: what its model card says, and the way to and from the hub."""

from pathlib import Path
from typing import Any

import timm
from huggingface_hub import HfApi, ModelCard, ModelCardData, snapshot_download

from cti.files import read_manifest

PAPER = "Yoon, Kwon, Kim, Yoon: Class Tokens Infusion for Weakly Supervised Semantic Segmentation, CVPR 2024"
_FILES = ["config.json", "model.safetensors", "README.md"]


def download(repo_id: str) -> Path:
    """The folder of a network that lies on the hub, from the local cache where it is there already.

    Raises:
        ValueError: if `repo_id` names neither a folder here nor a repository that can be had.
    """
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


def about_run(run: Path, stage: str, facts: dict[str, Any]) -> dict[str, Any]:
    """What a model card says about a network, gathered while its run is at hand.

    Args:
        run: The run folder.
        stage: `train` (CTI) or `segment`.
        facts: The network's `config.json`.

    Returns:
        JSON: `backbone`, `weights`, `licence`, and, as far as the run knows, `photos`, `tags` and `scores` (a list of
        `what`, `list`, `protocol`, `miou`).
    """
    settings = facts.get("model") or facts.get("segment") or {}
    network = str(settings.get("network", ""))
    smp = network.startswith("smp:")
    backbone = network.split(":")[2] if smp else settings.get("backbone", "")
    weights = str(settings.get("weights", ""))
    trained = _result(run, stage)
    about: dict[str, Any] = {
        "backbone": backbone,
        # No paths of this machine; for `smp:` "timm" stands for that library's own ImageNet weights.
        "weights": {"timm": "smp"}.get(weights, weights) if smp and not Path(weights).suffix else Path(weights).name,
        "licence": _licence(backbone) if weights == "timm" and not smp else "",
        "photos": trained.get("photos"),
        "real_masks": settings.get("masks") == "real",
    }
    if trained.get("tags"):
        about["tags"] = {"map": trained["tags"]["map"], "f1": trained["tags"]["f1"]}
    about["scores"] = [
        row
        for name, found in _result(run, "evaluate").get("lists", {}).items()
        for row in _score_rows(found, stage, name)
    ]
    return about


def model_card(facts: dict[str, Any], name: str = "FOLDER") -> str:
    """The `README.md` of a network, with the metadata the hub reads.

    Args:
        facts: Its `config.json`, with the entry `about`.
        name: What to give to `from_pretrained`.
    """
    about = facts.get("about", {})
    classes = facts["classes"]
    segmenter = facts.get("type") == "segmenter"
    licence = about.get("licence", "")
    metadata = ModelCardData(
        library_name="cti",
        pipeline_tag="image-segmentation",
        license=licence or None,
        tags=["weakly-supervised-semantic-segmentation", "class-token-infusion"],
    )
    what = (
        "A segmentation network, trained on "
        + (
            "pixel labels."
            if about.get("real_masks")
            else "masks that Class Token Infusion made from image-level tags."
        )
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


def _data_text(about: dict[str, Any]) -> str:
    if not about.get("photos"):
        return "Not recorded."
    kind = "with pixel labels" if about.get("real_masks") else "with image-level tags; no pixel label was used"
    return f"{about['photos']} photos {kind}."


def _scores_text(about: dict[str, Any]) -> str:
    rows = about.get("scores") or []
    tags = about.get("tags")
    parts = []
    if tags and tags.get("map") is not None:
        f1 = "" if tags.get("f1") is None else f", F1 {tags['f1']:.3f} at thresholds chosen on the same photos"
        parts.append(f"Tags of photos not trained on: mAP {tags['map']:.3f}{f1}.")
    if rows:
        table = ["| what | photos | protocol | mIoU |", "|---|---|---|---|"]
        table += [f"| {row['what']} | {row['list']} | {row['protocol']} | {row['miou']:.3f} |" for row in rows]
        parts += ["\n".join(table), "mIoU is a fraction over the background and all classes, of the whole list."]
    return "\n\n".join(parts) or "None were taken."


def _licence_text(about: dict[str, Any]) -> str:
    backbone, weights, licence = about.get("backbone", ""), about.get("weights", ""), about.get("licence", "")
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
    facts = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    return str(getattr(facts, "license", "") or "")


def _result(run: Path, stage: str) -> dict[str, Any]:
    manifest = read_manifest(run / stage)
    return manifest["result"] if manifest else {}


def _score_rows(found: dict[str, Any], stage: str, name: str) -> list[dict[str, Any]]:
    """Scores of one list, each with how it was taken."""
    rows: list[tuple[str, str, Any]] = []
    if stage == "segment":
        for variant, scores in found.get("segment", {}).items():
            rows.append(("segmentation", f"no tags given; {_variant(variant)}", scores["unsure_as_background"]))
    else:
        for key, tags in (("seeds", "true tags given"), ("seeds_predicted_tags", "predicted tags")):
            for scores in list(found.get(key, {}).values())[:1]:
                fixed, best, free = scores["fixed"], scores["best"], scores["threshold_free"]
                rows.append(("seed", f"{tags}; fixed threshold {fixed['threshold']:.2f}", fixed))
                rows.append(("seed", f"{tags}; threshold {best['threshold']:.2f}, chosen on these masks", best))
                if free is not None:
                    rows.append(("seed", f"{tags}; background CAM, no threshold", free))
    return [
        {"what": what, "list": name, "protocol": protocol, "miou": scores["miou"]}
        for what, protocol, scores in rows
        if scores["miou"] is not None
    ]


def _variant(variant: str) -> str:
    scale = "several scales" if variant.startswith("multi-scale") else "one scale"
    return f"{scale}, {'with' if variant.endswith('+crf') else 'without'} CRF"
