"""examples/token_reach.py: what class tokens do to patches, against the plain reference, and on a run."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from examples.token_reach import foreign_pairs, main, token_reach

from cti.method.reference import plain_pass
from tiny import make_run, tiny_batch, tiny_model


@pytest.mark.parametrize("background", ["token", "none"])
def test_attention_and_changes_are_those_of_plain_passes(background: str) -> None:
    model = tiny_model(background=background).double().eval()
    batch = tiny_batch()
    images, others = batch["images"].double(), batch["images_pos"].double()
    found = token_reach(model, images, others)
    assert model.infusion_index == 0
    plain, foreign = plain_pass(model, images), plain_pass(model, others)
    K = model.num_class_tokens
    for block, reach in enumerate(found):
        expected = plain.attention[block][:, K:, :K].sum(dim=2).mean().item()
        assert reach.attention == pytest.approx(expected, rel=1e-9)
    model.infusion_index = 1
    infused = plain_pass(model, images, infuse=foreign.class_tokens[1]).patch_maps
    changes = [
        ((a - b).norm() / b.norm()).item() for a, b in zip(infused, plain.patch_maps, strict=True)
    ]  # fmt: skip
    assert found[1].infused == pytest.approx(sum(changes) / len(changes), rel=1e-9)
    assert found[1].infused > 1e-4
    assert found[1].exchanged > found[1].infused
    assert (found[2].infused, found[2].exchanged, found[2].loss) == (None, None, None)


def test_ones_own_tokens_change_nothing() -> None:
    images = tiny_batch()["images"].double()
    for reach in token_reach(tiny_model().double().eval(), images, images)[:-1]:
        assert reach.difference == 0
        assert reach.infused == pytest.approx(0, abs=1e-12)
        assert reach.exchanged == pytest.approx(0, abs=1e-12)


def test_patches_without_attention_to_tokens_are_not_reached() -> None:
    """With no value taken over from any token, attention still counts, but nothing changes."""
    model = tiny_model().double().eval()
    with torch.no_grad():
        for block in model.backbone.blocks:
            block.attn.proj.weight.zero_()
    batch = tiny_batch()
    reaches = token_reach(model, batch["images"].double(), batch["images_pos"].double())
    assert [reach.infused for reach in reaches[:-1]] == [0, 0]
    assert all(reach.attention > 0 for reach in reaches)


@dataclass(frozen=True)
class Tagged:
    tags: tuple[int, ...]


def test_pairs_share_no_class() -> None:
    photos = [Tagged((0, 1)), Tagged((1,)), Tagged(()), Tagged((2,)), Tagged((0, 1, 2))]
    pairs = foreign_pairs(photos)  # type: ignore[arg-type]
    assert pairs == [(photos[0], photos[3]), (photos[1], photos[3]), (photos[3], photos[0])]


def test_the_script_prints_a_row_per_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["token_reach.py", str(make_run(tmp_path))])
    main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in rows[1:]] == ["| 0", "| 1", "| 2"]
