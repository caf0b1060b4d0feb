"""The command `cti`: help, exit codes, one sentence for bad input, one JSON object on stdout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cti.cli import COMMANDS, main
from tiny import options, tiny_shapes


def output_of_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
    return capsys.readouterr().out


def test_without_a_command_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    text = output_of_help([], capsys)
    assert all(f"  {name} " in text for name in COMMANDS)
    assert output_of_help(["--help"], capsys) == text


def test_the_package_is_the_command() -> None:
    """`python -m cti`, which is what torchrun starts."""
    done = subprocess.run([sys.executable, "-m", "cti", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("cti ")
    failed = subprocess.run([sys.executable, "-m", "cti", "report", "nowhere"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.startswith("cti report: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = output_of_help([*command.split(), "--help"], capsys)
    assert f"usage: cti {command}" in text
    assert "--json" in text
    assert "Args:" not in text


@pytest.mark.parametrize("action", ["check", "prepare"])
def test_help_of_data(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"usage: cti data {action}" in output_of_help(["data", action, "--help"], capsys)


def test_help_of_a_stage_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    text = output_of_help(["run", "--help-all"], capsys)
    for setting in ("--config", "--data.root", "--train.epochs", "--masks.pamr.iterations", "--segment.train.lr"):
        assert setting in text
    assert "Passes over the training photos" in text  # the fields' descriptions are there too


@pytest.mark.parametrize(
    ("stage", "shown"),
    [
        ("masks", "--masks.pamr.iterations 10 "),
        ("seeds", "--seeds.long_side 0 "),
        ("train", "--train.lr 6.25e-05 "),
        ("run", "--runtime.retrain false "),
    ],
)
def test_help_of_a_stage_shows_what_it_reads(stage: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = output_of_help([stage, "--help"], capsys)
    assert shown in text
    assert "--segment." not in text
    assert "--help-all" in text
    assert ("--masks." in text) == (stage == "masks")
    assert text.count("\n") <= 115, "more than two screens"
    assert "SUPPRESS" not in text


def test_help_needs_no_torch() -> None:
    words = [["--help"], ["run", "--help"], ["quickstart", "--help"], ["label", "--help"], ["data", "check", "--help"]]
    program = f"""
import sys
from cti.cli import main
for words in {words!r}:
    try:
        main(words)
    except SystemExit:
        pass
    assert "torch" not in sys.modules, words
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert output_of_help(["--version"], capsys) == f"cti {version('cti')}\n"


@pytest.mark.parametrize(
    "words", [["tarin"], ["data", "chekc"], ["data", "prepare", "voc07", "--root", "x"], ["label"], ["export", "RUN"]]
)
def test_calls_that_make_no_sense_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert "usage: cti" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "--config", "vco12"], "There is no configuration 'vco12'"),
        (["train", "--train.epoch", "3"], "There is no setting 'train.epoch'; did you mean train.epochs?"),
        (["seeds", "--seeds.scales", "big"], "seeds.scales is 'big'; give a list such as [a, b]."),
        (["segment", "--segment.network", "unet"], "segment.network is 'unet'; give vit-mlp"),
        (["train", "--data.root", "nowhere"], "The data folder nowhere does not exist"),
        (["data", "check", "nowhere"], "The data folder nowhere does not exist"),
        (["train", "surplus"], "unrecognized arguments: surplus"),
    ],
)
def test_bad_input_gets_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*words, "--json"]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err


def test_verbose_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        main(["train", "--data.root", str(tmp_path / "nowhere"), "--verbose"])


def test_a_disk_that_cannot_be_written_is_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, blocked = tiny_shapes(tmp_path / "shapes", count=4), tmp_path / "file"
    blocked.write_text("a file where the run's folder should be")
    assert main(["train", *options(photos, blocked)]) == 1
    assert str(blocked) in capsys.readouterr().err.replace("\n", "")


def test_json_is_all_that_is_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tiny_shapes(tmp_path / "shapes", count=8)
    capsys.readouterr()
    for command in ("train", "seeds", "masks", "evaluate"):
        assert main([command, *options(photos, tmp_path / "run"), "--json"]) == 0
        out, _ = capsys.readouterr()
        result = json.loads(out)
        assert "classes" in result, command
    assert main(["evaluate", *options(photos, tmp_path / "run")]) == 0
    assert capsys.readouterr().out == ""


def test_short_options_of_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = options(tiny_shapes(tmp_path / "shapes", count=8), tmp_path / "run")
    for command in ("train", "seeds"):
        assert main([command, *words]) == 0
    train = (tmp_path / "shapes" / "lists" / "train.txt").read_text().split()
    (tmp_path / "run" / "seeds" / f"{train[0]}.npz").unlink()
    assert main(["masks", *words]) == 1
    assert train[0] in capsys.readouterr().err.replace("\n", "")
    capsys.readouterr()
    assert main(["masks", *words, "--allow-missing", "--preview", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == [train[0]]
    previews = tmp_path / "run" / "masks" / "preview"
    assert len(list(previews.glob("*.png"))) == 2
    assert main(["masks", *words, "--allow-missing", "--preview", "4"]) == 0  # though it is finished
    assert len(list(previews.glob("*.png"))) == 4


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from cti import commands

    def interrupted(run: str) -> None:
        """Do not report.

        Args:
            run: The run.
        """
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "report", interrupted)
    assert main(["report", "run"]) == 130
    assert "call it again to go on" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["export"], ["export", "--help"], ["data", "-h"]])
def test_the_first_word_of_several_commands_lists_them(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert {name for name in COMMANDS if f"  {name}  " in text} == {n for n in COMMANDS if n.startswith(words[0])}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["exprt", "coco"], "there is no command 'exprt'"),
        (
            ["export", "cooc", "runs/mine"],
            "no command 'export cooc'; perhaps `cti export coco` is meant; `cti export --",
        ),
        (["lable", "photos"], "there is no command 'lable'; perhaps `cti label` is meant; `cti --help` lists them."),
    ],
)
def test_a_misspelt_command_is_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    text = capsys.readouterr().err
    assert sentence in text
    assert "choose from" not in text
