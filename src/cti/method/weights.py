"""Backbones by name, and the weights that go into them: timm's hub, a local file, or none."""

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cti.config import BackboneConfig, Config
from cti.method.official import is_official, to_timm_names
from cti.method.vit import PlainViT, conv_stem

logger = logging.getLogger(__name__)

StateDict = dict[str, Tensor]
_NOT_BACKBONE = re.compile(r"^(head|head_dist|fc_norm|norm_head|pre_logits)\.|^(dist_token|mask_token)$")


def build_backbone(config: BackboneConfig, image_size: int) -> PlainViT:
    """Build the backbone that `config` names, with its weights.

    Args:
        config: Name, sizes and weights.
        image_size: Side in pixels of the images it is trained on.

    Raises:
        ValueError: if the name is unknown, is no plain ViT, the image size does not divide into patches, or the
            weights cannot be had or do not fit.
    """
    if config.backbone == "vit":
        _check_divides(image_size, config.patch_size)
        vit = VisionTransformer(
            img_size=image_size,
            patch_size=config.patch_size,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            drop_path_rate=config.drop_path,
            num_classes=0,
        )
        if config.stem == "conv":
            vit.patch_embed.proj = conv_stem(config.embed_dim, config.patch_size)
    else:
        vit = _timm_vit(config, image_size)
    if config.weights not in ("timm", "none"):
        load_backbone_weights(vit, read_state_dict(config.weights), config.weights)
    return PlainViT(vit)


def _timm_vit(config: BackboneConfig, image_size: int) -> VisionTransformer:
    if not timm.is_model(config.backbone):
        near = ", ".join(timm.list_models(f"*{config.backbone.split('.')[0][:12]}*")[:5]) or "deit_small_patch16_224"
        raise ValueError(f"timm knows no backbone '{config.backbone}'; near it: {near}.")
    patch = re.search(r"patch(\d+)", config.backbone)
    if patch:
        _check_divides(image_size, int(patch[1]))
    options: dict[str, Any] = {"num_classes": 0, "drop_path_rate": config.drop_path, "img_size": image_size}
    try:
        vit = timm.create_model(config.backbone, pretrained=config.weights == "timm", **options)
    except (OSError, RuntimeError) as error:  # the hub's errors are OSErrors; httpx's and timm's are RuntimeErrors
        if config.weights != "timm":
            raise
        raise ValueError(
            f"The weights of {config.backbone} could not be had from the model hub ({type(error).__name__}): give a "
            "local file with --model.weights FILE.safetensors, or train from scratch with --model.weights none."
        ) from error
    except TypeError as error:  # it has no `img_size`
        raise ValueError(f"{config.backbone} is no plain ViT; choose one such as deit_small_patch16_224.") from error
    if not isinstance(vit, VisionTransformer):
        raise ValueError(
            f"{config.backbone} is a {type(vit).__name__}, not a plain ViT such as deit_small_patch16_224."
        )
    return vit


def _check_divides(image_size: int, patch_size: int) -> None:
    if image_size % patch_size:
        nearest = round(image_size / patch_size) * patch_size or patch_size
        raise ValueError(
            f"model.image_size {image_size} is not a multiple of the backbone's patch ({patch_size} px); use {nearest}."
        )


def read_state_dict(path: Path | str) -> StateDict:
    """Read the tensors of a `.safetensors` or `.pth` file; wrappers such as {"model": ...} are taken off.

    Pickled files are opened with `weights_only=True`: tensors are read, code is not run.

    Raises:
        ValueError: if the file is missing, cannot be read or holds no tensors.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"There is no weights file {file}; give a .safetensors or .pth file, 'timm' or 'none'.")
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen types for a broken file
        raise ValueError(f"{file} could not be read as weights ({error}).") from error
    for wrapper in ("model", "state_dict", "model_state_dict", "module"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file} holds no tensors by name; a state dict is needed.")
    return {name.removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}


def refuse_larger(config: BackboneConfig, path: Path) -> None:
    """Refuse a backbone built from scratch that its weights cannot fill, before memory is asked for.

    Raises:
        ValueError: if the file is too small.
    """
    # A block has 12 squares of its width; a tenfold excess costs little and is refused later, by name and shape.
    if config.backbone == "vit" and config.depth * config.embed_dim**2 > path.stat().st_size:
        raise ValueError(
            f"{path} is too small for {config.depth} blocks of width {config.embed_dim}, which the config.json beside "
            "it describes; restore them both."
        )


def refuse_non_finite(network: nn.Module, path: Path) -> None:
    """Stop if a network's weights are not all finite numbers: it would find nothing anywhere, without a word.

    Raises:
        ValueError: naming the file and the first such weight.
    """
    broken = [name for name, value in network.state_dict().items() if not bool(value.isfinite().all())]
    if broken:
        raise ValueError(
            f"{path} holds {len(broken)} weights that are not finite numbers ({broken[0]}, ...): the file is damaged "
            "or training diverged; restore it or train again with a lower learning rate."
        )


def load_backbone_weights(vit: VisionTransformer, state: StateDict, source: str) -> None:
    """Load a state dict in timm's, DeiT's or the CTI authors' names into a timm ViT, classifier heads left out.

    A position grid of another size is resized (bicubic).

    Raises:
        ValueError: if tensors are missing or have other shapes; the message names some.
    """
    if is_official(state):
        state = to_timm_names(state)
    state = {name: value.float() for name, value in state.items() if not _NOT_BACKBONE.match(name)}
    if "pos_embed" in state:
        state["pos_embed"] = _resize_positions(state["pos_embed"], vit)
    wanted = vit.state_dict()
    missing = [name for name in wanted if name not in state]
    misshaped = [
        f"{name} {tuple(state[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state and state[name].shape != wanted[name].shape
    ]
    if missing or misshaped:
        problems = [f"{len(missing)} tensors are missing ({', '.join(missing[:3])}, ...)"] if missing else []
        problems += [f"{len(misshaped)} have another shape ({'; '.join(misshaped[:3])})"] if misshaped else []
        raise ValueError(f"The weights in {source} do not fit the backbone: {'; '.join(problems)}.")
    unused = sorted(set(state) - set(wanted))
    if unused:
        logger.warning("%d tensors of %s play no part: %s", len(unused), source, ", ".join(unused[:5]))
    vit.load_state_dict({name: state[name] for name in wanted})


def _resize_positions(positions: Tensor, vit: VisionTransformer) -> Tensor:
    """Bring positions (1, [1 +] n*n, D) to the grid of `vit`."""
    assert vit.pos_embed is not None
    prefix = vit.pos_embed.shape[1] - vit.patch_embed.num_patches
    cls, patches = positions[:, :prefix], positions[:, prefix:]
    old, new = int(patches.shape[1] ** 0.5), int(vit.patch_embed.num_patches**0.5)
    if old * old != patches.shape[1] or old == new:
        return positions
    square = patches.transpose(1, 2).reshape(1, -1, old, old)
    resized = F.interpolate(square, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([cls, resized.flatten(2).transpose(1, 2)], dim=1)


def named_backbone(path: Path | str) -> tuple[str, int] | None:
    """The timm name and patch size of the plain ViT whose tensors a file holds, read from their shapes.

    Returns:
        For example `("vit_small_patch14_dinov2", 14)`; None if the shapes are those of no such network.

    Raises:
        ValueError: see `read_state_dict`.
    """
    shapes = tensor_shapes(path)
    patches = shapes.get("patch_embed.proj.weight")
    depth = sum(1 for name in shapes if re.fullmatch(r"blocks\.\d+\.norm1\.weight", name))
    if patches is None or len(patches) != 4:
        return None
    size = _SIZES.get((patches[0], depth))
    if size is None:
        return None
    patch, scaled = patches[-1], "blocks.0.ls1.gamma" in shapes
    names = (
        [f"vit_{size}_patch{patch}_dinov2"]
        if scaled
        else [f"deit_{size}_patch{patch}_224", f"vit_{size}_patch{patch}_224"]
    )
    return next(((name, patch) for name in names if timm.is_model(name)), None)


_SIZES = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large"}  # (width, blocks)


def tensor_shapes(path: Path | str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the tensors in a file of weights; of a `.safetensors` only the header is read.

    Raises:
        ValueError: see `read_state_dict`.
    """
    if Path(path).suffix == ".safetensors" and Path(path).is_file():
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no dict
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} could not be read as weights ({error}).") from error
    return {name: tuple(tensor.shape) for name, tensor in read_state_dict(path).items()}


def fit_to_weights(config: Config) -> Config:
    """The configuration with the backbone that its file of weights is of, and an image size that fits it.

    A file says itself what it is of, so nobody need name its backbone; what is changed is said.
    """
    model = config.model
    if model.weights in ("timm", "none") or model.backbone == "vit":
        return config
    named = named_backbone(model.weights)
    if named is None:
        return config
    name, patch = named
    side = max(round(model.image_size / patch), 1) * patch
    if name != model.backbone and not _same_geometry(name, model.backbone):
        logger.info("%s holds the weights of %s, which is taken instead of %s.", model.weights, name, model.backbone)
        model = replace(model, backbone=name)
    if side != model.image_size:
        logger.info("model.image_size %d becomes %d, a multiple of the patch.", model.image_size, side)
        model = replace(model, image_size=side)
    return replace(config, model=model)


def _same_geometry(name: str, other: str) -> bool:
    """Whether two of timm's names differ in their training only, such as deit_small_... and vit_small_..."""

    def geometry(backbone: str) -> tuple[bool, str]:
        return "dinov2" in backbone, "_".join(backbone.split(".")[0].split("_")[1:3])

    return geometry(name) == geometry(other)
