"""What the class tokens look like inside: t-SNE per layer, and how alike tokens of different classes are."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from cti.apps.report.blocks import Block, Chart
from cti.apps.report.charts import scatter_chart
from cti.apps.report.panels import choose_photos, hex_colour
from cti.apps.report.run_folder import RunFolder
from cti.apps.report.score_tables import heat_table
from cti.classes import BACKGROUND
from cti.data import Photo
from cti.data.datasets import TagDataset
from cti.evaluate.separation import token_similarity
from cti.method import CTI
from cti.method.checkpoint import load_model
from cti.tables import Table

logger = logging.getLogger(__name__)

NUM_PHOTOS = 200
FEW_PHOTOS = 30  # a list of fewer makes way for a longer one
MIN_POINTS = 6  # fewer make no picture


@dataclass(frozen=True)
class LayerTokens:
    """Class tokens of some photos at the output of one block.

    Args:
        block: 0-based.
        tokens: (n, T, D) of n photos, background first where the network has a background token.
        tags: (n, T) whether the photo has the class; False for the background.
        names: Names of the T tokens.
        infused: Whether it is the block whose tokens are infused.
    """

    block: int
    tokens: NDArray[np.float32]
    tags: NDArray[np.bool_]
    names: tuple[str, ...]
    infused: bool = False

    @property
    def title(self) -> str:
        """Which block, counted from 1."""
        return f"after block {self.block + 1}" + (" (infused)" if self.infused else "")

    @property
    def tagged(self) -> NDArray[np.float32]:
        """Tokens of the photos' own classes, (m, D)."""
        return self.tokens[self.tags]

    @property
    def groups(self) -> NDArray[np.int64]:
        """Index into `names` of each of `tagged`, (m,)."""
        return np.nonzero(self.tags)[1]

    def similarity(self) -> NDArray[np.float32]:
        """Cosine of the tokens of each two classes in the same photo, mean over photos, (T, T).

        The mean of all tokens is taken away first: foreground tokens share a base token, so that as they are all of
        them point nearly the same way.
        """
        tokens = self.tokens - self.tokens.mean(axis=(0, 1))
        unit = tokens / np.maximum(np.linalg.norm(tokens, axis=-1, keepdims=True), 1e-12)
        result: NDArray[np.float32] = (unit @ unit.transpose(0, 2, 1)).mean(axis=0)
        return result


def token_blocks(run: RunFolder) -> list[Block]:
    """Charts and tables of a run's class tokens; none without its network or its photos."""
    layers = run_tokens(run)
    if not layers:
        return []
    return [*tsne_charts(layers), *(_similarity_table(layer) for layer in (layers[0], layers[-1]))]


def _similarity_table(layer: LayerTokens) -> Table:
    alike = token_similarity(layer.tokens)
    note = "Cosine x 100 in the same photo, mean over photos, after the mean of all tokens was taken away."
    if np.isfinite(alike):
        note += f" Without that, two classes' tokens have a cosine of {alike:.3f} on average."
    caption = f"Similarity of the class tokens, {layer.title}"
    return heat_table(caption, layer.names, layer.similarity(), note)


def run_tokens(run: RunFolder) -> list[LayerTokens]:
    """Class tokens of a run's network on its own photos, not trained on if there are enough of these."""
    if not run.has_model or run.photo_set is None:
        return []
    lists = {name: run.photo_set.lists[name] for name in ("val", "score", "train")}
    longest = max(lists, key=lambda name: len(lists[name]))
    name = next((name for name, photos in lists.items() if len(photos) >= FEW_PHOTOS), longest)
    photos = [photo for _, photo in choose_photos({name: lists[name]}, len(run.photo_set.classes), NUM_PHOTOS)]
    if not photos:
        return []
    try:
        model, _ = load_model(run.path / "train")
        return class_tokens(model, photos)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: weights of another version
        logger.warning("The class tokens are left out: %s", error)
        return []


@torch.inference_mode()
def class_tokens(model: CTI, photos: Sequence[Photo], blocks: Sequence[int] = ()) -> list[LayerTokens]:
    """Class tokens at the output of some blocks.

    Args:
        model: In eval mode.
        photos: At least one.
        blocks: 0-based; if empty, four: the first, the infused one, half-way from there, the last.
    """
    last = model.depth - 1
    blocks = blocks or sorted({0, model.infusion_index, (model.infusion_index + last) // 2, last})
    dataset = TagDataset(photos, len(model.classes), model.config.image_size, model.mean, model.std)
    kept: dict[int, list[NDArray[np.float32]]] = {block: [] for block in blocks}
    labels = []
    for batch in DataLoader(dataset, batch_size=16):
        out = model(batch["images"])
        for block in blocks:
            kept[block].append(out.class_tokens[block].float().numpy())
        labels.append(batch["labels"].numpy() > 0)
    tags = np.concatenate(labels)
    tokenless = model.num_class_tokens - len(model.classes)
    tags = np.pad(tags, ((0, 0), (tokenless, 0)))
    names = (*[BACKGROUND] * tokenless, *model.classes)
    return [
        LayerTokens(block, np.concatenate(kept[block]), tags, names, block == model.infusion_index) for block in blocks
    ]


def tsne_charts(layers: Sequence[LayerTokens], prefix: str = "") -> list[Chart]:
    """One map per layer of the tokens of the photos' own classes (the paper's figure)."""
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score

    charts: list[Chart] = []
    for layer in layers:
        tokens, groups = layer.tagged, layer.groups
        if len(tokens) < MIN_POINTS:
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # identical tokens of an early block have no spread
            perplexity = min(30.0, (len(tokens) - 1) / 3)
            points = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=0).fit_transform(tokens)
        num_groups = np.unique(groups).size
        separation = ""
        if 1 < num_groups < len(tokens):
            separation = f", silhouette {silhouette_score(tokens, groups, metric='cosine'):.2f}"
        offset = len(layer.names) - sum(name != BACKGROUND for name in layer.names)
        colours = [hex_colour(index - offset + 1) for index in range(len(layer.names))]
        caption = f"{prefix}{layer.title}{separation}"
        charts.append(scatter_chart(caption, points.astype(np.float64), groups, layer.names, colours))
    return charts
