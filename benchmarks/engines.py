"""`cti label` over many generated small photos: the rate of each engine, and whether memory stays flat.

python -m benchmarks.engines [--count 20000] [--engines local ray] [--work FOLDER]

The network is tiny, so that all but the network is what is measured. Each engine is one call of the command, in turn.
A rate is taken between a tenth and nine tenths of the photos, so that starting and ending are not in it: by the clock,
and by the seconds of processor time of all processes, which is the clock of one core that does nothing else.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

_MARK = "CTI_ENGINES_MARK"  # in the environment of all processes of a call
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--engines", nargs="+", default=["local", "ray"])
    parser.add_argument("--format", default="png", choices=["png", "parquet"])
    parser.add_argument("--work", default="", help="folder for photos and masks; default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(arguments.work or temporary)
        model = write_network(work / "network")
        photos = write_photos(work / "photos", arguments.count)
        for engine in arguments.engines:
            words = ["label", str(photos), "--model", str(model), "--out", str(work / engine), "--engine", engine]
            call = watched([*words, "--format", arguments.format], work / engine, arguments.count)
            print(f"{engine}: {call.text(arguments.count)}", flush=True)


def write_network(folder: Path) -> Path:
    """A segmenter of two blocks with random weights."""
    import torch

    from cti.config import PredictConfig, SegmentConfig
    from cti.predict.predictor import Predictor
    from cti.predict.segmenter import SegmenterAnalyser
    from cti.segment.checkpoint import TrainedSegmenter
    from cti.segment.networks import build_segmenter

    torch.manual_seed(0)
    config = SegmentConfig(
        network="vit-upsample", backbone="vit", weights="none", crop_size=32, embed_dim=32, depth=2, num_heads=2,
        patch_size=8, drop_path=0.0,
    )  # fmt: skip
    network = build_segmenter(config, 3).eval()
    trained = TrainedSegmenter(network, config, PredictConfig(), ("disc", "ring", "star"))
    Predictor(SegmenterAnalyser(trained)).save_pretrained(folder)
    return folder


def write_photos(folder: Path, count: int) -> Path:
    """JPEGs of 64 x 48 pixels, a few hundred different ones again and again."""
    import io

    from PIL import Image

    from cti.data.readers.shapes import render_scene

    contents = []
    for index in range(min(count, 200)):
        file = io.BytesIO()
        Image.fromarray(render_scene(0, index, 64).image[:48]).save(file, "JPEG", quality=90)
        contents.append(file.getvalue())
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        (folder / f"p{index:06}.jpg").write_bytes(contents[index % len(contents)])
    return folder


@dataclass
class Call:
    """What was seen of one call.

    Args:
        seconds: From start to end.
        samples: (clock, processor seconds of all processes, photos done), once a second.
        memory: Role of processes -> resident bytes, sample by sample.
    """

    seconds: float = 0.0
    samples: list[tuple[float, float, int]] = field(default_factory=list)
    memory: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))

    def text(self, count: int) -> str:
        first = next(sample for sample in self.samples if sample[2] >= count / 10)
        last = [sample for sample in self.samples if sample[2] <= count * 9 / 10][-1]
        clock, work, photos = (end - start for start, end in zip(first, last, strict=True))
        lines = [
            f"{count} photos in {self.seconds:.0f} s, {self.samples[-1][1]:.0f} s of processor time; in between "
            f"{photos / clock:.1f} photos a second by the clock, {photos / work:.1f} by processor time"
        ]
        for role, sizes in self.memory.items():
            at = [max(size for done, size in sizes if done <= count * part / 4) for part in (1, 2, 3, 4)]
            shown = ", ".join(f"{size / 1e6:.0f}" for size in at)
            lines.append(f"  {role}: most MB until 1/4, 2/4, 3/4 and all of the photos: {shown}")
        return "\n".join(lines)


def watched(words: list[str], out: Path, count: int) -> Call:
    """Run `cti` with these words and look at all of its processes once a second."""
    mark = uuid.uuid4().hex
    environment = os.environ | {_MARK: mark, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    started, call, spent = time.monotonic(), Call(), {}
    with subprocess.Popen([sys.executable, "-m", "cti", *words], env=environment, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            done, sizes = labelled(out), defaultdict(int)
            for place in Path("/proc").iterdir():
                try:
                    if not place.name.isdigit() or mark.encode() not in (place / "environ").read_bytes():
                        continue
                    numbers = (place / "stat").read_text().rpartition(")")[2].split()
                    name = (place / "cmdline").read_bytes()
                except OSError:
                    continue  # it has ended
                spent[place.name] = (int(numbers[11]) + int(numbers[12])) / _TICKS
                role = "caller" if int(place.name) == process.pid else "other processes of Ray"
                sizes["worker" if b"ray::MapWorker" in name else role] += int(numbers[21]) * _PAGE
            for role, size in sizes.items():
                call.memory[role].append((done, size))
            call.samples.append((time.monotonic(), sum(spent.values()), done))
            time.sleep(1)
        assert process.returncode == 0, f"cti {' '.join(words)} ended with {process.returncode}"
    call.seconds = time.monotonic() - started
    assert labelled(out) == count
    return call


def labelled(out: Path) -> int:
    """Photos that have a mask, by the books of the call; for tables by their sizes."""
    if (out / "photos.jsonl").exists():
        return (out / "photos.jsonl").read_bytes().count(b"\n")
    if not (out / "photos").is_dir():
        return 0
    from pyarrow import parquet

    return sum(parquet.read_metadata(path).num_rows for path in (out / "photos").glob("part-*.parquet"))


if __name__ == "__main__":
    main()
