"""Seeds: class activation maps from a trained model, and their files."""

from cti.data.seed_file import Seed, read_seed, write_seed
from cti.seeds.extract import extract_seeds, seed_cams

__all__ = ["Seed", "extract_seeds", "read_seed", "seed_cams", "write_seed"]
