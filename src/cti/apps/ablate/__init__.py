"""Ablations: a grid of changed settings, run over several seeds and compared pair by pair."""

from cti.apps.ablate.grid import Grid, Variant, load_grid, shipped_grids
from cti.apps.ablate.results import AblationResult
from cti.apps.ablate.runs import ablate

__all__ = ["AblationResult", "Grid", "Variant", "ablate", "load_grid", "shipped_grids"]
