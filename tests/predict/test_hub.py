"""The way to and from the hub, without the hub, and what the model card says."""

import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from huggingface_hub import ModelCard
from numpy.typing import NDArray

from cti import Predictor
from cti.cli import main
from cti.config import SegmentConfig
from cti.data import Photo, load_mask
from cti.evaluate.masks import count_masks
from cti.evaluate.scores import ListScores, RunScores
from cti.evaluate.seeds import count_seeds
from cti.files import write_manifest
from cti.predict import hub
from cti.predict.hub import About, ScoreLine, about_run, model_card
from cti.tables import Table, row, to_markdown
from tiny import RUN_CLASSES as CLASSES
from tiny import make_run


class MaskOfFile:
    """A segmentation of the run, taken for the truth."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> NDArray[np.uint8]:
        return load_mask(self.path, len(CLASSES))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with scores, in the very form of the stage `scores`."""
    run = make_run(tmp_path_factory.mktemp("hub"))
    predictions = run / "segment" / "predictions" / "single"
    photos = [
        Photo(name, run.parent / "photos" / "images" / f"{name}.jpg", (0, 1), MaskOfFile(predictions / f"{name}.png"))
        for name in ("p4", "p5")
    ]
    val = ListScores(
        seeds={"refined": count_seeds(run / "seeds", photos, CLASSES).scores()},
        segment={"single": count_masks(predictions, photos, CLASSES).scores()},
    )
    write_manifest(run / "evaluate", RunScores(CLASSES, {"val": val}))
    return run


class FakeHub:
    """Stands in for `huggingface_hub.HfApi`: keeps what is sent."""

    sent: ClassVar[dict[str, dict[str, bytes]]] = {}
    made: ClassVar[list[tuple[str, bool, bool]]] = []

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        self.made.append((repo_id, private, exist_ok))
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.sent[repo_id] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


def test_what_is_pushed_can_be_had_again(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HfApi", FakeHub)
    predictor = Predictor.from_pretrained(run, use="cti")
    assert predictor.push_to_hub("me/cats", private=True) == "https://huggingface.co/me/cats"
    assert FakeHub.made == [("me/cats", True, True)]
    assert sorted(FakeHub.sent["me/cats"]) == ["README.md", "config.json", "model.safetensors"]
    assert b"from_pretrained('me/cats')" in FakeHub.sent["me/cats"]["README.md"]

    def snapshot(repo_id: str, allow_patterns: list[str]) -> str:
        for name, content in FakeHub.sent[repo_id].items():
            assert name in allow_patterns
            (tmp_path / name).write_bytes(content)
        return str(tmp_path)

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    photo = run.parent / "photos" / "images" / "p0.jpg"
    np.testing.assert_array_equal(Predictor.from_pretrained("me/cats")(photo).mask, predictor(photo).mask)


def test_an_unreachable_hub_gets_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **options: Any) -> str:
        raise ConnectionError("HTTPSConnectionPool(host='huggingface.co', port=443): Max retries\nexceeded")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(ValueError, match=r"^'no/such' is no folder here, and .* \(ConnectionError\); check .*\.$") as e:
        Predictor.from_pretrained("no/such")
    assert "\n" not in str(e.value)
    monkeypatch.setattr(FakeHub, "create_repo", unreachable)
    monkeypatch.setattr(hub, "HfApi", FakeHub)
    with pytest.raises(ValueError, match=r"^'no/such' was not published: ConnectionError .* `hf auth login`"):
        Predictor.from_pretrained(run, use="cti").push_to_hub("no/such")


@pytest.mark.parametrize("path", ["/no/such/run", "./run", "../run", "runs/of/mine", "~/run", "C:\\runs\\mine"])
def test_a_path_of_nothing_is_no_name_on_the_hub(run: Path, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FileNotFoundError, match=f"^No such file or folder: {re.escape(path)}$"):
        Predictor.from_pretrained(path)
    assert main(["label", str(run.parent / "photos" / "images"), "--model", path]) == 1
    assert capsys.readouterr().err.endswith(f"cti label: No such file or folder: {path}\n")


def test_the_card_of_cti_names_protocols_and_metadata(run: Path, tmp_path: Path) -> None:
    Predictor.from_pretrained(run, use="cti").save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.library_name == "cti"
    assert card.data.pipeline_tag == "image-segmentation"
    text = card.text
    assert "4 photos with image-level tags; no pixel label was used." in text
    assert "mAP 0.500, F1 0.600 at thresholds chosen on the same photos" in text
    rows = [line for line in text.splitlines() if line.startswith("| seed | val |")]
    assert len(rows) == 3
    assert "true tags given; fixed threshold 0.25" in rows[0]
    assert "chosen on these masks" in rows[1]
    assert "background CAM, no threshold" in rows[2]
    assert all(0 <= float(row.split("|")[-2]) <= 1 for row in rows)
    assert "trained from scratch" in text
    assert "segmentation" not in "".join(rows)


def test_the_card_of_a_segmenter_gives_its_own_scores(run: Path, tmp_path: Path) -> None:
    Predictor.from_pretrained(run, use="segmenter").save_pretrained(tmp_path)
    text = ModelCard.load(tmp_path / "README.md").text
    assert "| segmentation | val | no tags given; one scale, without CRF | 1.000 |" in text
    assert "| seed |" not in text
    assert "masks that Class Token Infusion made" in text


@pytest.mark.parametrize(
    ("settings", "weights", "said"),
    [
        ({"backbone": "deit_small_patch16_224", "weights": "timm"}, "timm", "timm's weights of deit_small_patch16_224"),
        ({"backbone": "vit", "weights": "/home/me/start.safetensors"}, "start.safetensors", "local file start.saf"),
        ({"backbone": "vit", "weights": "none"}, "none", "trained from scratch"),
        ({"network": "smp:Unet:resnet18", "weights": "timm"}, "smp", "resnet18 in segmentation-models-pytorch"),
        ({"network": "smp:Unet:resnet18", "weights": "/home/me/r.pth"}, "r.pth", "local file r.pth for resnet18"),
    ],
)
def test_where_the_backbone_comes_from(settings: dict[str, str], weights: str, said: str, tmp_path: Path) -> None:
    key = "segment" if "network" in settings else "model"
    kind = "segmenter" if key == "segment" else "cti"
    description: dict[str, Any] = {"type": kind, "classes": CLASSES, key: settings}
    about = about_run(tmp_path, "train", description)
    assert about.weights == weights
    card = model_card(description, about)
    assert said in card
    assert "/home" not in card
    assert "Not recorded." in card  # photos
    assert "None were taken." in card


def test_the_licence_of_timm_weights_is_timms(tmp_path: Path) -> None:
    description = {"classes": CLASSES, "model": {"backbone": "deit_small_patch16_224", "weights": "timm"}}
    about = about_run(tmp_path, "train", description)
    assert about.licence == "apache-2.0"
    assert ModelCard(model_card(description, about)).data.license == "apache-2.0"


def test_a_card_says_when_pixel_labels_were_used(tmp_path: Path) -> None:
    config = SegmentConfig(weights="none", masks="real")
    description: dict[str, Any] = {"type": "segmenter", "classes": CLASSES, "segment": vars(config)}
    write_manifest(tmp_path / "segment", {"photos": 7})
    card = model_card(description, about_run(tmp_path, "segment", description))
    assert "trained on pixel labels" in card
    assert "7 photos with pixel labels." in card
    assert "Infusion made" not in card


KNOWN = About(
    "vit", "start.pth", "", 12, False, 0.51234, 0.6,
    (ScoreLine("seed", "val", "true tags", 0.75), ScoreLine("x", "y", "z", 0.5)),
)  # fmt: skip
END = f"## Source\n\n{hub.PAPER}.\n"


def test_a_card_of_cti_word_for_word() -> None:
    text = ModelCard(model_card({"type": "cti", "classes": ["cat", "dog"]}, KNOWN, "me/cats")).text
    assert text.strip() + "\n" == (
        "# CTI for 2 classes\n\nA Class Token Infusion (CTI) network: a vision transformer, trained on image-level "
        "tags, whose class tokens say where each class is.\n\n## Use\n\n```python\nfrom cti import Predictor\n\n"
        "predictor = Predictor.from_pretrained('me/cats')\n"
        "prediction = predictor('photo.jpg', tags=['cat'])  # without tags they are predicted\n"
        "prediction.save('out')\n```\n\n## Classes\n\n0 background, 1 cat, 2 dog.\n\n## Training data\n\n"
        "12 photos with image-level tags; no pixel label was used.\n\n## Scores\n\n"
        "Tags of photos not trained on: mAP 0.512, F1 0.600 at thresholds chosen on the same photos.\n\n"
        + to_markdown(
            Table(
                "",
                ("what", "photos", "protocol", "mIoU"),
                (row("seed", "val", "true tags", "0.750"), row("x", "y", "z", "0.500")),
                note="mIoU is a fraction over the background and all classes, of the whole list.",
            )
        )
        + "\n\n## Licence of the backbone\n\n"
        "Started from the local file start.pth for vit; the licence of that file applies.\n\n" + END
    )


def test_a_card_of_a_segmenter_word_for_word() -> None:
    about = About("deit", "timm", photos=None, tag_map=0.5)
    card = ModelCard(model_card({"type": "segmenter", "classes": ["cat"]}, about))
    assert card.text.strip() + "\n" == (
        "# Segmenter for 1 classes\n\nA segmentation network, trained on masks that Class Token Infusion made from "
        "image-level tags.\n\n## Use\n\n```python\nfrom cti import Predictor\n\n"
        "predictor = Predictor.from_pretrained('FOLDER')\nprediction = predictor('photo.jpg')\n"
        "prediction.save('out')\n```\n\n## Classes\n\n0 background, 1 cat.\n\n## Training data\n\nNot recorded.\n\n"
        "## Scores\n\nTags of photos not trained on: mAP 0.500.\n\n## Licence of the backbone\n\n"
        "Started from timm's weights of deit, licence: not stated by timm; look it up.\n\n" + END
    )
    assert card.data.license is None
    assert card.data.tags == ["weakly-supervised-semantic-segmentation", "class-token-infusion"]
    assert "Not recorded.\n\n## Source" in model_card({"classes": ["cat"]}, About())


@pytest.mark.parametrize(
    ("variant", "said"),
    [
        ("single", "one scale, without CRF"),
        ("single+crf", "one scale, with CRF"),
        ("multi-scale", "several scales, without CRF"),
        ("multi-scale+crf", "several scales, with CRF"),
    ],
)
def test_variants_in_words(variant: str, said: str) -> None:
    assert hub._variant(variant) == said
