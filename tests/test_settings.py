"""Recipes, files, run folders and options make one checked configuration; what is written reads back equal."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cti.config import Config, MethodConfig, TrainConfig
from cti.settings import CONFIG_FILE, dump_config, find_config, load_config, recipes


def test_nothing_given_is_the_defaults() -> None:
    assert load_config() == Config()


@pytest.mark.parametrize("recipe", [None, *recipes()])
def test_round_trip(recipe: str | None, tmp_path: Path) -> None:
    config = load_config(recipe, ["--data.classes", "[cat, 'dining table', Straße]", "--seeds.scales", "[0.5, 1.0]"])
    (tmp_path / "copy.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "copy.yaml") == config
    assert config.data.classes == ("cat", "dining table", "Straße")


def test_a_run_folder_is_a_configuration(tmp_path: Path) -> None:
    config = Config(out=str(tmp_path), train=TrainConfig(epochs=7))
    (tmp_path / CONFIG_FILE).write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path) == config
    assert find_config(str(tmp_path)) == tmp_path / CONFIG_FILE


def test_a_file_wins_over_a_recipe_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shapes").write_text("train: {epochs: 99}\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_config("shapes").train.epochs == 99


def test_options_change_a_recipe_and_nothing_else() -> None:
    recipe, changed = load_config("coco14"), load_config("coco14", ["--train.lr", "2e-4", "--method.gate", "per_class"])
    assert changed.train.lr == pytest.approx(2e-4)
    assert changed.method.gate == "per_class"
    assert changed.method.intra_weight == recipe.method.intra_weight == pytest.approx(0.1)
    assert changed.segment.train == recipe.segment.train


def test_sections_that_a_file_leaves_out_keep_their_defaults(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text("segment: {train: {epochs: 3}}\n", encoding="utf-8")
    config = load_config(path)
    assert config.segment.train.epochs == 3
    assert config.segment.train.schedule == Config().segment.train.schedule == "poly"
    assert config.train == TrainConfig()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train: {epoch: 3}", r"There is no setting 'train\.epoch'; did you mean train\.epochs\?"),
        ("masks: {pamr: {iteration: 3}}", r"There is no setting '(masks\.)?pamr\.iteration'"),
        ("trian: {epochs: 3}", "There is no setting 'trian"),
        ("train: {epochs: many}", r"train\.epochs is 'many'; give a whole number\."),
        ("method: {gate: some}", r"method\.gate is 'some'; give one of all, per_class\."),
        ("method: {intra_weight: -1}", r"method\.intra_weight is -1\.0; give 0 or more\."),
        ("train: [", r"wrong\.yaml cannot be read as YAML in UTF-8: "),
        ("train", r"wrong\.yaml is no configuration"),
        (
            "a: &a [x, x]\nb: [*a, *a]",
            r"wrong\.yaml .*: it refers to a part of itself \(\*name\); write the values out",
        ),
        ("train: " + "[" * 20_000, r"wrong\.yaml cannot be read as YAML in UTF-8: "),
    ],
)
def test_wrong_files_are_refused_in_one_line(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=sentence) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


NAMES = ("3", "12", "yes", "null", "écureuil")


def test_names_are_text_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(f"data: {{classes: [{', '.join(NAMES)}], normal: [no]}}\n", encoding="utf-8")
    config = load_config(path)
    assert (config.data.classes, config.data.normal) == (NAMES, ("no",))


@pytest.mark.parametrize("words", [["--data.classes", "[{}]"], ["--data.classes=[{}]"]], ids=["two words", "one word"])
def test_names_are_text_on_the_command_line(words: list[str]) -> None:
    assert load_config(None, [word.format(", ".join(NAMES)) for word in words]).data.classes == NAMES


def test_a_configuration_is_utf8_whatever_the_platform_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(dump_config(replace(Config(), out=Path("猫 ü"))), encoding="utf-8")
    true_open = io.open

    def cp1252(file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, *rest: Any) -> Any:
        return true_open(file, mode, buffering, "cp1252" if "b" not in mode and encoding is None else encoding, *rest)

    monkeypatch.setattr("builtins.open", cp1252)
    assert Path(load_config(path).out) == Path("猫 ü")


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("out: läufe\n".encode("cp1252"))
    with pytest.raises(ValueError, match=r"latin\.yaml cannot be read as YAML in UTF-8"):
        load_config(path)


def test_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no configuration 'vco12'.*own.*shapes.*voc12"):
        load_config("vco12")


def test_unknown_option_names_the_near_one() -> None:
    with pytest.raises(ValueError, match=r"no setting 'train\.epoch'; did you mean train\.epochs\?"):
        load_config(None, ["--train.epoch", "3"])


def test_environment_variables_do_not_leak_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTI_TRAIN__EPOCHS", "5")
    assert load_config().train.epochs == TrainConfig().epochs


def test_configurations_are_frozen() -> None:
    with pytest.raises(AttributeError):
        MethodConfig().gate = "per_class"  # type: ignore[misc]
