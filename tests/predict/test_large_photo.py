"""A photo of 108 megapixels is labelled in bounded memory, by each kind of network."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cti.data.images import load_mask

LABELLED = """
import sys
from pathlib import Path
import torch
from cti.config import ModelConfig, PredictConfig, SeedsConfig, SegmentConfig
from cti.method import CTI
from cti.predict.cti import CTIAnalyser
from cti.predict.label import label
from cti.predict.predictor import Predictor
from cti.predict.segmenter import SegmenterAnalyser
from cti.segment.checkpoint import TrainedSegmenter
from cti.segment.networks import build_segmenter

torch.set_num_threads(1)
torch.manual_seed(0)
kind, folder, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
classes = ("scratch", "dent", "stain", "hole", "rust")
vit = {"backbone": "vit", "weights": "none", "embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 32}
if kind == "cti":
    network = CTI.from_config(classes, ModelConfig(**vit, image_size=224, infusion_index=0)).eval()
    Predictor(CTIAnalyser(network, dict.fromkeys(classes, -9.0), SeedsConfig())).save_pretrained(folder / kind)
else:
    config = SegmentConfig(**vit, network="vit-linear", crop_size=224)
    trained = TrainedSegmenter(build_segmenter(config, len(classes)).eval(), config, PredictConfig(), classes)
    Predictor(SegmenterAnalyser(trained)).save_pretrained(folder / kind)
result = label([folder / "large.jpg"], folder / kind, folder / f"{kind}-out", max_pixels=size)
assert result.labelled == 1, result
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])
"""
HEIGHT, WIDTH = 9_000, 12_000
MOST = 2_200  # MB, of which about 750 are the libraries and 430 the decoded photo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the photo: smooth colours of a few hundred pixels."""
    folder = tmp_path_factory.mktemp("large")
    colours = np.random.default_rng(0).integers(0, 256, (45, 60, 3), dtype=np.uint8)
    Image.fromarray(colours).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR).save(folder / "large.jpg")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("kind", ["cti", "segmenter"])
def test_a_very_large_photo_is_labelled_in_bounded_memory(kind: str, folder: Path) -> None:
    command = [sys.executable, "-c", LABELLED, kind, str(folder), str(HEIGHT * WIDTH)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) / 1024 < MOST
    mask = load_mask(folder / f"{kind}-out" / "large.png", 5, HEIGHT * WIDTH)
    assert mask.shape == (HEIGHT, WIDTH)
    assert len(np.unique(mask)) > 1
