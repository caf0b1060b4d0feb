"""`cti data check` and `cti data prepare` from the command line."""

import json
from pathlib import Path

import pytest

from cti.arguments import call, command_parser, reads
from cti.cli import main
from cti.commands import label
from cti.config import Config
from cti.data.readers.shapes import SHAPES_CLASSES
from cti.settings import load_config
from tiny import tiny_shapes


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return tiny_shapes(tmp_path / "shapes")


def test_check_of_a_sound_set(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(photos), "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["lists"] == {"train": 9, "score": 9, "val": 3}
    assert report["classes"]["train"].keys() == set(SHAPES_CLASSES)
    assert not report["stops_training"]
    assert "can be trained on" in err


def test_check_names_broken_photos_and_fails(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = photos / "images" / f"{(photos / 'lists' / 'train.txt').read_text().split()[0]}.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert main(["data", "check", str(photos), "--json"]) == 1
    out, err = capsys.readouterr()
    assert list(json.loads(out)["broken"]) == [broken.stem]
    assert broken.name in err.replace("\n", "")
    assert "would stop" in err
    assert main(["data", "check", str(photos), "--data.max_broken", "0.5"]) == 0


def test_check_takes_its_settings_from_options_recipes_and_the_environment(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CTI_DATA", str(photos))
    assert main(["data", "check", "--config", "own", "--data.classes", "[disc, star]", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["train"].keys() == {"disc", "star"}
    assert main(["data", "check", "--data.root", str(photos), "--json"]) == 0


def test_prepare_without_archives_says_which_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("cti.data.prepare.download_url", unreachable)
    assert main(["data", "prepare", "coco14", "--root", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    for name in ("train2014.zip", "val2014.zip", "annotations_trainval2014.zip"):
        assert name in err
    assert str(tmp_path) in err


@pytest.mark.parametrize(("text", "value"), [("free", "free"), ("0.3", 0.3)])
def test_a_threshold_on_the_command_line(text: str, value: object) -> None:
    parser = command_parser(label, "cti label")
    assert parser.parse_args(["a.jpg", "--model", "run", "--threshold", text]).threshold == value
    assert parser.parse_args(["a.jpg", "b.jpg", "--model", "run", "--tags", "cat", "dog"]).tags == ["cat", "dog"]


def test_a_folder_of_photos_implies_the_recipe_for_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Config, str]] = []

    @reads("data")
    def run(config: Config, photos: str = "", *, stop_after: str | None = None) -> None:
        """Take the configuration.

        Args:
            config: The configuration.
            photos: The folder.
            stop_after: A stage.
        """
        seen.append((config, photos))

    assert call(run, "cti run", ["my photos", "--weights", "w.safetensors", "--epochs=3"]) == (0, {})
    config, photos = seen.pop()
    assert (config.data.root, photos) == ("my photos", "my photos")
    assert config.method == load_config("own").method
    assert (config.model.weights, config.train.epochs) == ("w.safetensors", 3)
    call(run, "cti run", ["photos", "--config", "shapes", "--overwrite"])
    config, _ = seen.pop()
    assert (config.data.root, config.model.backbone, config.runtime.overwrite) == ("photos", "vit", True)
    call(run, "cti run", [])
    assert seen.pop()[0] == Config()


def test_check_writes_a_clean_table(photos: Path, tmp_path: Path) -> None:
    lines = (photos / "labels.csv").read_text().splitlines()
    (photos / "labels.csv").write_text(
        "\n".join(["file;label", *(line.replace(",", ";") for line in lines[1:])]) + "\n"
    )
    assert main(["data", "check", str(photos), "--fix", str(tmp_path / "clean.csv")]) == 0
    assert (tmp_path / "clean.csv").read_text().splitlines()[0] == "image,tags"


def test_check_writes_a_table_that_can_be_taken_as_it_says(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(photos), "--fix"]) == 0
    assert "takeitwith--data.labelsclean.csv" in "".join(capsys.readouterr().err.split())
    assert main(["data", "check", str(photos), "--data.labels", "clean.csv"]) == 0
    assert main(["data", "check", str(photos), "--fix"]) == 1
    assert "clean.csv is there already; give --fix another name" in capsys.readouterr().err


def test_check_of_too_few_photos_does_not_say_that_they_can_be_trained_on(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (photos / "images").joinpath(f"{(photos / 'lists' / 'train.txt').read_text().split()[0]}.png").rename(own / "a.png")
    (own / "labels.csv").write_text("image,tags\na.png,disc\n")
    assert main(["data", "check", str(own)]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot be learnt" in said
    assert "would run on this data set, and learn no class" in said
    assert "can be trained on" not in said


@pytest.mark.parametrize("words", [["--long-side", "448"], ["--long-side=448"]])
def test_the_long_side_is_that_of_seeds_and_segmenter(words: list[str]) -> None:
    @reads("seeds")
    def run(config: Config, photos: str = "") -> tuple[int, int]:
        """Take the configuration.

        Args:
            config: The configuration.
            photos: The folder, whose name may hold a space.
        """
        assert photos == "my photos"
        return config.seeds.long_side, config.segment.long_side

    assert call(run, "cti run", ["my photos", *words])[1] == [448, 448]
    assert call(run, "cti run", ["my photos", *words, "--segment.long_side", "224"])[1] == [448, 224]


def test_options_of_a_training_that_does_not_take_place_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`--size` where the first look is enough, which is the default for one's own photos."""

    @reads("data", "train")
    def run(config: Config, photos: str = "") -> None:
        """Take the configuration.

        Args:
            config: The configuration.
            photos: The folder.
        """

    words = ["photos", "--weights", "w.safetensors", "--size=64", "--epochs", "9", "--train.seed", "1"]
    call(run, "cti run", words)
    assert caplog.text.count("--size, --epochs: for a training that does not take place, because") == 1
    caplog.clear()
    call(run, "cti run", [*words, "--train.warm_start", "on"])
    call(run, "cti run", ["photos", "--weights", "w.safetensors", "--long-side", "448"])
    assert not caplog.text
