"""`cti quickstart` shows every stage; here with the tiny run's networks and data in place of the recipe's."""

import json
from pathlib import Path
from typing import Any

import pytest

from cti.apps import quickstart
from cti.cli import main
from tiny import tiny_config, tiny_shapes


def test_quickstart_sums_up_every_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def small(recipe: str, overrides: list[str]) -> Any:
        asked.append((recipe, overrides))
        return tiny_config(tiny_shapes(tmp_path / "run" / "shapes"), tmp_path / "run")

    monkeypatch.setattr(quickstart, "load_config", small)
    assert main(["quickstart", "--out", str(tmp_path / "run"), "--seed", "3", "--json"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    recipe, overrides = asked[0]
    assert recipe == "shapes"
    assert overrides[overrides.index("--train.seed") + 1] == "3"
    assert overrides[overrides.index("--out") + 1] == str(tmp_path / "run")
    scores = json.loads((tmp_path / "run" / "evaluate" / "manifest.json").read_text())["result"]["lists"]
    assert summary["seed_miou"] == scores["val"]["seeds"]["refined"]["fixed"]["miou"]
    assert summary["baseline_miou"] == max(scores["val"]["seeds"]["refined"]["baselines"].values())
    assert summary["mask_miou"] == scores["val"]["masks"]["as_background"]["miou"]
    assert summary["segmentation_miou"] == scores["val"]["segment"]["single"]["as_background"]["miou"]
    assert summary["seconds"] > 0
    assert Path(summary["picture"]).is_file()
    assert "minutes" in err  # the predicted time, before anything starts
    for text in ("seeds: mIoU", "masks: mIoU", "segmenter: mIoU", "mAP of tags"):
        assert text in err
    for text in ("Stage 1 of 5: train", "Stage 5 of 5: evaluate"):
        assert text in err
    for text in ("Made: ", "Where: ", "How good: ", "Doubtful: ", "Next: "):
        assert text in err
