"""How fast the package is, measured side by side with the method written plainly: `python -m benchmarks`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The step's plain reference is the one that the tests prove the step against: what is timed is what is compared.
sys.path.insert(0, str(ROOT / "tests"))
