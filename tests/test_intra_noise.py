"""examples/intra_noise.py: what stochastic depth adds to the intra loss, and that a run prints both."""

import sys
from pathlib import Path

import pytest
import torch
from examples.intra_noise import intra_loss, main

from cti.method.losses import intra_image_loss
from cti.method.reference import plain_pass
from tiny import make_run, tiny_batch, tiny_model


def test_the_loss_is_that_of_plain_passes_and_stochastic_depth_adds_to_it() -> None:
    model = tiny_model(drop_path=0.5).double().eval()
    images, others = (tiny_batch()[name].double() for name in ("images", "images_pos"))
    with torch.no_grad():
        tokens = plain_pass(model, others).class_tokens[model.infusion_index]
        infused = plain_pass(model, images, infuse=tokens).patch_maps
        expected = float(intra_image_loss(plain_pass(model, images).patch_maps, infused))
    assert intra_loss(model, images, others) == pytest.approx(expected, rel=1e-9)
    model.train()
    torch.manual_seed(0)
    assert intra_loss(model, images, others) > 2 * expected


def test_without_stochastic_depth_training_sees_the_same() -> None:
    model = tiny_model(drop_path=0.0).double()
    images, others = (tiny_batch()[name].double() for name in ("images", "images_pos"))
    assert intra_loss(model.train(), images, others) == pytest.approx(intra_loss(model.eval(), images, others))


def test_the_script_prints_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["intra_noise.py", str(make_run(tmp_path)), "--photos", "4"])
    main()
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()[-2:]] == [
        "intra loss as training sees it", "intra loss with all blocks"
    ]  # fmt: skip
