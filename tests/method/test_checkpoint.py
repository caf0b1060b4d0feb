import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cti.method.checkpoint import CONFIG, WEIGHTS, load_model, save_model
from cti.segment.checkpoint import load_segmenter, save_segmenter
from tiny import RUN_CLASSES as CLASSES
from tiny import tiny_cti, tiny_trained


def test_a_network_comes_back_as_it_was(tmp_path: Path) -> None:
    model = tiny_cti()
    save_model(tmp_path, model, {"tag_thresholds": {"cat": 0.5}})
    back, facts = load_model(tmp_path)
    images = torch.rand(2, 3, 40, 32)
    assert torch.equal(back(images).patch_maps, model(images).patch_maps)
    assert not back.training
    assert back.classes == CLASSES
    assert facts["tag_thresholds"] == {"cat": 0.5}
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, WEIGHTS]


def test_no_place_of_this_machine_is_written(tmp_path: Path) -> None:
    model = tiny_cti()
    object.__setattr__(model.config, "weights", str(tmp_path / "private" / "start.safetensors"))
    save_model(tmp_path / "out", model)
    assert json.loads((tmp_path / "out" / CONFIG).read_text())["model"]["weights"] == "start.safetensors"
    assert load_model(tmp_path / "out")[0].config.weights == "start.safetensors"  # and still says what it began with


def spoil_nothing_there(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def spoil_cut_short(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil_other_type(folder: Path) -> None:
    (folder / CONFIG).write_text('{"type": "tokenizer"}')


def spoil_no_json(folder: Path) -> None:
    (folder / CONFIG).write_text("{")


def spoil_other_version(folder: Path) -> None:
    facts = json.loads((folder / CONFIG).read_text())
    settings = facts.get("model") or facts["segment"]
    settings["no_such_setting"] = 1
    (folder / CONFIG).write_text(json.dumps(facts))


def spoil_not_a_number(folder: Path) -> None:
    state = safetensors.torch.load_file(folder / WEIGHTS)
    list(state.values())[-1].view(-1)[0] = float("nan")
    safetensors.torch.save_file(state, folder / WEIGHTS)


def spoil_other_size(folder: Path) -> None:
    facts = json.loads((folder / CONFIG).read_text())
    settings = facts.get("model") or facts["segment"]
    settings["embed_dim"] = 64
    (folder / CONFIG).write_text(json.dumps(facts))


def spoil_too_deep(folder: Path) -> None:
    settings = json.loads((folder / CONFIG).read_text())
    (settings.get("model") or settings["segment"])["depth"] = 200_000
    (folder / CONFIG).write_text(json.dumps(settings))


def spoil_too_wide(folder: Path) -> None:
    settings = json.loads((folder / CONFIG).read_text())
    (settings.get("model") or settings["segment"])["embed_dim"] = 10**6
    (folder / CONFIG).write_text(json.dumps(settings))


def spoil_a_list(folder: Path) -> None:
    (folder / CONFIG).write_text("[]")


def spoil_classes(folder: Path) -> None:
    settings = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(settings | {"classes": [["cat"], {}, 3]}))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_nothing_there, "holds no trained"),
        (spoil_cut_short, "could not be read as weights"),
        (spoil_other_type, "describes a 'tokenizer'"),
        (spoil_no_json, "is not valid JSON"),
        (spoil_other_version, "was not written by this version of cti .*no_such_setting"),
        (spoil_not_a_number, r"model.safetensors holds 1 weights that are not finite numbers \(.*restore it or train"),
        (spoil_too_deep, "is too small for 200000 blocks of width 32, which the config.json beside it describes"),
        (spoil_too_wide, r"is too small for \d blocks of width 1000000,"),
        (spoil_a_list, "holds no JSON object"),
        (spoil_classes, "was not written by this version of cti .*0"),
        (spoil_other_size, "is not one of this version of cti .*size mismatch"),
    ],
)
@pytest.mark.parametrize("kind", ["cti", "segmenter"])
def test_a_spoilt_folder_gets_one_sentence(kind: str, spoil, sentence: str, tmp_path: Path) -> None:
    if kind == "cti":
        save_model(tmp_path, tiny_cti())
    else:
        save_segmenter(tmp_path, tiny_trained())
    spoil(tmp_path)
    with pytest.raises(ValueError, match=f"(?s)(?=.*{tmp_path.name}).*{sentence}"):
        (load_model if kind == "cti" else load_segmenter)(tmp_path)
