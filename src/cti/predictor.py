"""From a trained network, CTI or segmenter, to masks for any photo.

predictor = Predictor.from_pretrained("runs/animals")
predictor("photo.jpg", tags=["cat"]).save("out")
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, overload

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from cti.checkpoint import CONFIG, load_model, save_model
from cti.config import Config, CrfConfig, SeedsConfig, SegmentConfig
from cti.data.images import MAX_PIXELS, load_image, to_rgb
from cti.device import default_device
from cti.files import read_json, read_manifest, write_json, write_text
from cti.hub import about_run, download, model_card, push_folder
from cti.models import CTI
from cti.prediction import Analysis, Prediction, Threshold
from cti.refine.crf import crf_step
from cti.seeds.extract import fit_to_patches
from cti.seeds.maps import batch_maps
from cti.segmentation.checkpoint import load_segmenter, save_segmenter
from cti.segmentation.networks import Segmenter
from cti.segmentation.predict import argmax_at, predict_probabilities
from cti.settings import CONFIG_FILE, load_config

ImageLike = str | os.PathLike[str] | Image.Image | NDArray[Any]
Batch = list[Any] | tuple[ImageLike, ...]
Use = Literal["cti", "segmenter"]
CARD = "README.md"
_STAGE: dict[Use, str] = {"cti": "train", "segmenter": "segmenter"}


class Backend(Protocol):
    """A network and the settings it is used with."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The C foreground classes."""
        ...

    @property
    def network(self) -> torch.nn.Module:
        """The network, in eval mode."""
        ...

    def analyse(self, image: Image.Image, source: str) -> Analysis:
        """Run the network on one photo."""
        ...

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """Write `config.json`, with `facts` among its entries, and `model.safetensors`."""
        ...


@dataclass(frozen=True)
class CTIBackend:
    """A CTI network.

    Args:
        network: In eval mode.
        tag_thresholds: Class -> logit above which its tag is predicted; 0 for classes that are not named.
        seeds: Sizes, mirror, kind and blocks of the maps, as in the stage `seeds`.
        threshold: Background score to use when none is asked for.
    """

    network: CTI
    tag_thresholds: dict[str, float] = field(default_factory=dict)
    seeds: SeedsConfig = field(default_factory=SeedsConfig)
    threshold: float = 0.25

    @property
    def classes(self) -> tuple[str, ...]:
        """The C foreground classes."""
        return self.network.classes

    def analyse(self, image: Image.Image, source: str) -> Analysis:
        """Maps of all classes, so that tags can be chosen afterwards; scores are those the thresholds were chosen on.

        The maps cost little beside the network; making them pixels, which does not, is left to `Analysis.predict`.
        """
        logits = self._tag_logits(image)
        thresholds = torch.tensor([self.tag_thresholds.get(name, 0.0) for name in self.classes])
        maps = self._maps(image)
        background = maps[-1] if self.network.config.background != "none" else None
        return Analysis(
            image=image,
            source=source,
            classes=self.classes,
            scores=logits.sigmoid().numpy(),
            predicted=tuple((logits > thresholds).nonzero().flatten().tolist()),
            maps=maps[: len(self.classes)],
            background=background,
            kind="cti",
            threshold=self.threshold,
        )

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """See `Backend`."""
        own = {"tag_thresholds": self.tag_thresholds, "seeds": asdict(self.seeds), "threshold": self.threshold}
        save_model(folder, self.network, own | facts)

    @torch.inference_mode()
    def _tag_logits(self, image: Image.Image) -> Tensor:
        """(C,) logits of the whole photo as a square, which is how tags are scored in training."""
        side = self.network.config.image_size
        out = self.network(self._images(image, (side, side)))
        logits: Tensor = (out.class_logits + out.patch_logits)[0] / 2
        return logits.float().cpu()

    def _maps(self, image: Image.Image) -> NDArray[np.float32]:
        """(C [+ 1], h, w) maps before `max_norm`, the background last, all scales added up on the grid of scale 1."""
        own, patch = (image.height, image.width), self.network.patch_size
        height, width = fit_to_patches(own, patch, self.seeds.long_side / max(own) if self.seeds.long_side else 1.0)
        images = self._images(image, (height, width))
        kind, everything = self.seeds.kinds[0], range(len(self.classes))
        total: Tensor | None = None
        for scale in self.seeds.scales:
            scaled = _resize(images, fit_to_patches((height, width), patch, scale), antialias=True)
            found, _ = batch_maps(self.network, scaled, [everything], (kind,), self.seeds.flip, self.seeds.blocks)
            at_grid = _resize(found[kind][0][None], (height // patch, width // patch))[0]
            total = at_grid if total is None else total + at_grid
        assert total is not None
        return total.float().cpu().numpy()

    def _images(self, image: Image.Image, size: tuple[int, int]) -> Tensor:
        """The photo at `size` (H, W), normalised, (1, 3, H, W), where the network is."""
        pixels = np.array(image.resize(size[::-1], Image.Resampling.BICUBIC))
        images = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        images = TF.normalize(images, list(self.network.mean), list(self.network.std))
        return images.to(next(self.network.parameters()).device)


@dataclass(frozen=True)
class SegmenterBackend:
    """A segmentation network.

    Args:
        network: In eval mode.
        config: Scales, mirror, windows and CRF of a prediction.
        classes: The C foreground classes.
    """

    network: Segmenter
    config: SegmentConfig
    classes: tuple[str, ...]

    def analyse(self, image: Image.Image, source: str) -> Analysis:
        """Class probabilities; a class's score is its highest probability at any pixel.

        The predicted classes are those that lead somewhere. At the default threshold, `free`, the mask is the one that
        the stage `segmenter` predicts.
        """
        size = (image.height, image.width)
        probabilities = predict_probabilities(self.network, image, self.config)
        present = np.union1d(0, argmax_at(probabilities, size))
        if self.config.crf != "none":
            probabilities = self._refined(image, probabilities, present)
            present = np.union1d(0, probabilities.argmax(dim=0).numpy())
        return Analysis(
            image=image,
            source=source,
            classes=self.classes,
            scores=probabilities[1:].amax(dim=(1, 2)).numpy(),
            predicted=tuple(int(value) - 1 for value in present if value),
            maps=probabilities[1:].numpy(),
            background=probabilities[0].numpy(),
            kind="segmenter",
            threshold="free",
        )

    def save(self, folder: Path, facts: dict[str, Any]) -> None:
        """See `Backend`."""
        shared = replace(self.config, masks=Path(self.config.masks).name, weights=Path(self.config.weights).name)
        save_segmenter(folder, self.network, shared, self.classes)  # no paths of this machine
        write_json(folder / CONFIG, read_json(folder / CONFIG) | facts)

    def _refined(self, image: Image.Image, probabilities: Tensor, present: NDArray[Any]) -> Tensor:
        """Dense CRF over the classes that lead somewhere; the others get probability 0."""
        size = (image.height, image.width)
        assert self.config.crf != "none"
        at_pixels = _resize(probabilities[present][None], size)[0]
        refined = crf_step(np.asarray(image), at_pixels.numpy(), CrfConfig(preset=self.config.crf))
        full = torch.zeros(len(probabilities), *size)
        full[present] = torch.from_numpy(refined)
        return full


class Predictor:
    """A trained network, ready for photos.

    Args:
        backend: The network and how it is used.
        about: What a model card says about it (`cti.hub.about_run`).

    Example:
        >>> predictor = Predictor.from_pretrained("runs/animals")  # doctest: +SKIP
        >>> predictor("cat.jpg", tags=["cat"]).overlay()  # doctest: +SKIP
    """

    def __init__(self, backend: Backend, about: dict[str, Any] | None = None) -> None:
        self.backend = backend
        self.about = about or {}
        backend.network.eval()

    @classmethod
    def from_pretrained(
        cls, where: str | os.PathLike[str], use: Use | None = None, device: str | torch.device | None = None
    ) -> "Predictor":
        """Load a network.

        Args:
            where: A run folder, a folder that `save_pretrained` wrote, or the id of a repository on the Hugging Face
                hub.
            use: Which network of a run: `cti` (the default) or `segmenter`.
            device: Where it runs; None = the accelerator, if there is one, else the CPU.

        Raises:
            ValueError: if there is no such network, or the hub cannot be reached.
        """
        root = Path(where)
        if not root.exists():
            root = download(str(where))
        folder = _model_folder(root, use)
        config = _run_config(root, folder)
        facts = read_json(folder / CONFIG)
        about = facts.get("about") or about_run(folder.parent, folder.name, facts)
        backend: Backend
        if facts.get("type") == "segmenter":
            from cti.pipeline import prediction_config  # slow to import, and CTI does not need it

            network, segment, classes = load_segmenter(folder)
            backend = SegmenterBackend(network, prediction_config(segment, segment.variants[0]), classes)
        else:
            model, _ = load_model(folder)
            backend = CTIBackend(
                model,
                facts.get("tag_thresholds") or {},
                _seeds_config(facts["seeds"]) if "seeds" in facts else config.seeds,
                facts.get("threshold", config.score.threshold),
            )
        backend.network.to(device or default_device())
        return cls(backend, about)

    @property
    def classes(self) -> tuple[str, ...]:
        """The C foreground classes; mask value = index + 1."""
        return self.backend.classes

    @overload
    def __call__(
        self, image: ImageLike, tags: Sequence[str] | None = None, threshold: Threshold | None = None
    ) -> Prediction: ...

    @overload
    def __call__(
        self, image: Batch, tags: Sequence[str] | None = None, threshold: Threshold | None = None
    ) -> list[Prediction]: ...

    def __call__(
        self,
        image: ImageLike | Batch,
        tags: Sequence[str] | None = None,
        threshold: Threshold | None = None,
    ) -> Prediction | list[Prediction]:
        """Label one photo, or several of any sizes.

        Args:
            image: A path, a PIL image, an array (H, W, 3), (H, W, 4) or (H, W) uint8, or a list of these.
            tags: Classes that are in the photo (in every one of a list); None = predicted by the network.
            threshold: Background score in [0, 1] that a class must exceed, or `free` = the background's own map. None
                = the run's `score.threshold` for CTI, and `free` for a segmenter, which is its plain argmax.

        Returns:
            A `Prediction`, or a list of them for a list.

        Raises:
            ValueError: for an unknown tag, a threshold outside [0, 1] or a photo that cannot be read.
        """
        if isinstance(image, list | tuple):
            return [self.analyse(one).predict(tags, threshold) for one in image]
        return self.analyse(image).predict(tags, threshold)

    def analyse(self, image: ImageLike, max_pixels: int = MAX_PIXELS) -> Analysis:
        """Run the network on one photo; tags and threshold can then be chosen, and changed, without it.

        Args:
            image: A path, a PIL image or an array.
            max_pixels: Larger files are refused by name.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is no photo.
        """
        if isinstance(image, str | os.PathLike):
            return self.backend.analyse(load_image(Path(image), max_pixels), str(image))
        if isinstance(image, Image.Image):
            return self.backend.analyse(to_rgb(image), getattr(image, "filename", ""))
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
            raise ValueError(
                f"An image of shape {image.shape} and type {image.dtype} cannot be used; give (H, W, 3), (H, W, 4) or "
                "(H, W) of uint8."
            )
        return self.backend.analyse(to_rgb(Image.fromarray(image)), "")

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
        self.backend.save(folder, {"about": self.about})
        write_text(folder / CARD, model_card(read_json(folder / CONFIG), name))


def _model_folder(root: Path, use: Use | None) -> Path:
    """The folder of the network itself: `root`, or a stage of the run `root`."""
    if not (root / CONFIG).is_file():
        folder = root / _STAGE[use or "cti"]
        if read_manifest(folder) is None or not (folder / CONFIG).is_file():
            raise ValueError(
                f"{root} is neither a saved network ({CONFIG}) nor a run whose stage {folder.name} has finished; give "
                "the run folder of `cti run`, or wait for the stage."
            )
        return folder
    kind = read_json(root / CONFIG).get("type")
    if use is not None and kind != use:
        raise ValueError(f"{root} holds a network of the type '{kind}', not '{use}'; leave `use` out.")
    return root


def _run_config(root: Path, folder: Path) -> Config:
    """The run's configuration, from the run folder or the stage's; the defaults if the network has left its run."""
    found = [place for place in (root, folder) if (place / CONFIG_FILE).is_file()]
    return load_config(found[0]) if found else Config()


def _seeds_config(fields: dict[str, Any]) -> SeedsConfig:
    known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return SeedsConfig(**known)


def _resize(images: Tensor, size: tuple[int, int], antialias: bool = False) -> Tensor:
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=antialias)
