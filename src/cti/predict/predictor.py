"""From a trained network, CTI or segmenter, to masks for any photo.

predictor = Predictor.from_pretrained("runs/animals")
predictor("photo.jpg", tags=["cat"]).save("out")
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, TypeGuard, cast, overload

import torch

from cti.config import Config, SeedsConfig
from cti.data.depth import AS_IT_IS, Reading
from cti.data.images import MAX_PIXELS
from cti.device import default_device
from cti.files import from_json, read_manifest, read_object, to_json, write_text
from cti.method.checkpoint import CONFIG, load_model
from cti.predict.ahead import ahead
from cti.predict.analyser import Analyser
from cti.predict.batches import in_batches
from cti.predict.cti import CTIAnalyser
from cti.predict.held_out import read_held_out, tag_thresholds
from cti.predict.hub import About, about_network, download, model_card, push_folder
from cti.predict.inputs import ImageLike, read_image
from cti.predict.photos import find_photos
from cti.predict.prediction import Analysis, Prediction, Threshold
from cti.predict.segmenter import SegmenterAnalyser
from cti.segment.checkpoint import load_segmenter
from cti.settings import CONFIG_FILE, load_config

Batch = list[Any] | tuple[ImageLike, ...]
Tags = Sequence[str] | Sequence[Sequence[str] | None]  # of one photo or all; one per photo
Use = Literal["cti", "segmenter"]
CARD = "README.md"
_READING = "reading"  # in config.json
_STAGE: dict[Use, str] = {"segmenter": "segment", "cti": "train"}  # the one to prefer first


class Predictor:
    """A trained network, ready for photos.

    Args:
        analyser: The network and how it is used.
        about: What a model card says about it (`cti.predict.hub.about_network`).
        reading: How values of the photos it learned from became colours, by which new ones are read too.

    Example:
        >>> predictor = Predictor.from_pretrained("runs/animals")  # doctest: +SKIP
        >>> predictor("cat.jpg", tags=["cat"]).overlay()  # doctest: +SKIP
    """

    def __init__(self, analyser: Analyser, about: About | None = None, reading: Reading = AS_IT_IS) -> None:
        self.analyser = analyser
        self.reading = reading
        self.about = about or About()
        analyser.network.eval()

    @classmethod
    def from_pretrained(
        cls,
        where: str | os.PathLike[str],
        use: Use | None = None,
        device: str | torch.device | None = None,
        false_alarms: float | None = None,
    ) -> "Predictor":
        """Load a network.

        Args:
            where: A run folder, a folder that `save_pretrained` wrote, or the id of a repository on the Hugging Face
                hub.
            use: Which network of a run: `segmenter`, which is the default where the run has one, or `cti`. Given tags
                restrict either: each pixel is background or one of them.
            device: Where it runs; None = the accelerator, if there is one, else the CPU.
            false_alarms: See `PredictConfig`; None = as the run's settings say. Only a run knows photos held out.

        Raises:
            ValueError: if there is no such network, the hub cannot be reached, or `false_alarms` is given and no photo
                was held out.
        """
        root = Path(where)
        if not root.exists():
            root = download(str(where))
        folder = _model_folder(root, use)
        config = _run_config(root, folder)
        facts = read_object(folder / CONFIG)
        about = about_network(folder, facts)
        thresholds = from_json(dict[str, float], facts.get("tag_thresholds") or {}, folder / CONFIG)
        analyser: CTIAnalyser | SegmenterAnalyser
        if facts.get("type") == "segmenter":
            trained, known = load_segmenter(folder), facts.get("held_out")
            if known is None:
                found = read_held_out(folder, trained.classes, segmenter=True)
                known = found.certainty.tolist() if found else []
            analyser = SegmenterAnalyser(trained, thresholds, from_json(tuple[float, ...], known, folder / CONFIG))
        else:
            model, _ = load_model(folder)
            analyser = CTIAnalyser(
                model,
                thresholds,
                from_json(SeedsConfig, facts["seeds"], folder / CONFIG) if "seeds" in facts else config.seeds,
                from_json(float, facts.get("threshold", config.evaluate.threshold), folder / CONFIG),
            )
        rate = config.predict.false_alarms if false_alarms is None else false_alarms
        if rate is not None:
            analyser = _limited(analyser, folder, rate, asked=false_alarms is not None)
        analyser.network.to(device or default_device())
        known = facts.get(_READING)
        reading = Reading.of(config.data) if known is None else from_json(Reading, known, folder / CONFIG)
        return cls(analyser, about, reading)

    @property
    def use(self) -> Use:
        """Which kind of network this is: `cti` or `segmenter`."""
        return "segmenter" if isinstance(self.analyser, SegmenterAnalyser) else "cti"

    @property
    def classes(self) -> tuple[str, ...]:
        """The C foreground classes; mask value = index + 1."""
        return self.analyser.classes

    @overload
    def __call__(
        self, image: ImageLike, tags: Tags | None = None, threshold: Threshold | None = None
    ) -> Prediction: ...

    @overload
    def __call__(
        self, image: Batch, tags: Tags | None = None, threshold: Threshold | None = None
    ) -> list[Prediction]: ...

    def __call__(
        self, image: ImageLike | Batch, tags: Tags | None = None, threshold: Threshold | None = None
    ) -> Prediction | list[Prediction]:
        """Label one photo, or several of any sizes.

        Args:
            image: What `read_image` takes, or a list of these; `stream` takes folders.
            tags: Classes that are in the photo, and in every one of a list, or a list of such lists, one per photo;
                None = predicted by the network.
            threshold: Background score in [0, 1] that a class must exceed, or `free` = the background's own map. None
                = the run's `evaluate.threshold` for CTI, and `free` for a segmenter, which is its plain argmax.

        Returns:
            A `Prediction`, or a list of them for a list.

        Raises:
            ValueError: for an unknown tag, a threshold outside [0, 1] or a photo that cannot be read.
        """
        if isinstance(image, list | tuple):
            given = _tags_per_photo(tags, len(image))
            photos = [(*read_image(photo, reading=self.reading), number) for number, photo in enumerate(image)]
            batches = in_batches(photos, lambda photo: photo[0].size[::-1], self.analyser.seen_as)
            found = {
                number: analysis.predict(given[number], threshold)
                for batch in batches
                for (*_, number), analysis in zip(batch, self._analyse(batch), strict=True)
            }
            return [found[number] for number in range(len(image))]
        if not _are_of_all(tags):
            raise ValueError("The tags are lists of class names, which go with a list of photos; give one list.")
        return self.analyse(image).predict(tags, threshold)

    def analyse(self, image: ImageLike, max_pixels: int = MAX_PIXELS) -> Analysis:
        """Run the network on one photo; tags and threshold can then be chosen, and changed, without it.

        Args:
            image: What `read_image` takes.
            max_pixels: Larger files are refused by name.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no photo.
        """
        return self._analyse([read_image(image, max_pixels, self.reading)])[0]

    def _analyse(self, photos: Sequence[tuple[Any, ...]]) -> list[Analysis]:
        """Analyse photos that are seen alike, each an image, its source, and whatever else."""
        return self.analyser.analyse([photo[0] for photo in photos], [photo[1] for photo in photos])

    def stream(
        self,
        photos: str | os.PathLike[str] | Iterable[ImageLike],
        tags: Tags | None = None,
        threshold: Threshold | None = None,
    ) -> Iterator[Prediction]:
        """Label photos one after the other, while the next are read; only a few are in memory at a time.

        Args:
            photos: A folder (searched with its sub-folders), a pattern such as `new/*.jpg`, or any iterable of what
                `read_image` takes.
            tags: Classes that are in every photo, or a list of such lists, one per photo; None = predicted by the
                network.
            threshold: See `__call__`.

        Raises:
            ValueError: for a photo that cannot be read, which `cti label` skips, or if there are not as many lists of
                tags as photos.
        """
        items: Iterable[ImageLike] = (
            find_photos([photos if isinstance(photos, str) else Path(photos)]).values()
            if isinstance(photos, str | os.PathLike)
            else photos
        )
        read = partial(read_image, reading=self.reading)
        for (_, given), image in ahead(lambda pair: read(pair[0]), _with_tags(items, tags)):
            yield self._analyse([image.result()])[0].predict(given, threshold)

    def to(self, device: str | torch.device) -> "Predictor":
        """Move the network to a device; returns the predictor itself."""
        self.analyser.network.to(device)
        return self

    def __repr__(self) -> str:
        device = next(self.analyser.network.parameters()).device
        return f"Predictor({self.use}, {len(self.classes)} classes: {', '.join(self.classes)}; on {device})"

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the network as `from_pretrained` reads it: `config.json`, `model.safetensors`, and a model card."""
        self._save(Path(folder), Path(folder).name)

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Publish the network with its model card on the Hugging Face hub.

        Args:
            repo_id: `owner/name`; made if absent.
            private: Whether a new repository is private.
            token: Of the hub; None = the one that `hf auth login` stored.

        Returns:
            The address of the repository.

        Raises:
            ValueError: if the hub cannot be reached or refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            self._save(Path(folder), repo_id)
            return push_folder(Path(folder), repo_id, private=private, token=token)

    def _save(self, folder: Path, name: str) -> None:
        self.analyser.save(folder, {"about": to_json(self.about), _READING: to_json(self.reading)})
        write_text(folder / CARD, model_card(read_object(folder / CONFIG), self.about, name))


def _are_of_all(tags: Tags | None) -> TypeGuard[Sequence[str] | None]:
    """Whether the tags are those of every photo."""
    return tags is None or isinstance(tags, str) or all(isinstance(names, str) for names in tags)


def _with_tags(photos: Iterable[ImageLike], tags: Tags | None) -> Iterator[tuple[ImageLike, Sequence[str] | None]]:
    """Each photo with its tags; there may be endlessly many."""
    if _are_of_all(tags):
        yield from ((photo, tags) for photo in photos)
        return
    missing = object()
    for photo, given in zip_longest(photos, cast(Sequence[Sequence[str] | None], tags), fillvalue=missing):
        if photo is missing or given is missing:
            raise ValueError("There are not as many lists of tags as photos; give one list per photo.")
        yield cast(ImageLike, photo), cast(Sequence[str] | None, given)


def _tags_per_photo(tags: Tags | None, count: int) -> Sequence[Sequence[str] | None]:
    """The tags of each of `count` photos."""
    if _are_of_all(tags):
        return [tags] * count
    lists = cast(Sequence[Sequence[str] | None], tags)
    if len(lists) != count:
        raise ValueError(f"There are {count} photos and {len(lists)} lists of tags; give one list per photo.")
    return lists


def _model_folder(root: Path, use: Use | None) -> Path:
    """The folder of the network itself: `root`, or a stage of the run `root`."""
    if (root / CONFIG).is_file():
        kind = read_object(root / CONFIG).get("type")
        if use is not None and kind != use:
            raise ValueError(f"{root} holds a network of the type '{kind}', not '{use}'; leave `use` out.")
        return root
    finished = [name for name, stage in _STAGE.items() if _is_finished(root / stage)]
    if not finished:
        raise ValueError(
            f"{root} is neither a saved network ({CONFIG}) nor a run with a finished network ("
            f"{', '.join(_STAGE.values())}); give the run folder of `cti run`, or wait for the stage."
        )
    if use is not None and use not in finished:
        raise ValueError(f"{root} has no finished '{use}'; it has {' and '.join(finished)}: give that as `use`.")
    return root / _STAGE[use or finished[0]]


def _limited(
    analyser: CTIAnalyser | SegmenterAnalyser, folder: Path, rate: float, asked: bool
) -> CTIAnalyser | SegmenterAnalyser:
    """The network with thresholds for a rate of false alarms; where nothing is known, as it was saved."""
    if not 0 <= rate < 1:
        raise ValueError(f"The rate of false alarms is {rate}; give a share from 0 to below 1.")
    known = read_held_out(folder, analyser.classes, isinstance(analyser, SegmenterAnalyser))
    if known is None and asked:
        raise ValueError(
            f"{folder} knows no tagged photo that was held out, so false alarms cannot be counted; leave them out."
        )
    return (
        analyser if known is None else replace(analyser, tag_thresholds=tag_thresholds(known, analyser.classes, rate))
    )


def _is_finished(stage: Path) -> bool:
    return read_manifest(stage) is not None and (stage / CONFIG).is_file()


def _run_config(root: Path, folder: Path) -> Config:
    """The run's configuration, from the run folder or the stage's; the defaults if the network has left its run."""
    found = [place for place in (root, folder) if (place / CONFIG_FILE).is_file()]
    return load_config(found[0]) if found else Config()
