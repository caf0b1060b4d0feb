"""Seeds: class activation maps from a trained model, and their files."""

from cti.data.seed_file import Seed, read_seed, write_seed
from cti.seeds.extract import ExtractResult, extract_seeds, seed_cams

__all__ = ["ExtractResult", "Seed", "extract_seeds", "read_seed", "seed_cams", "write_seed"]
