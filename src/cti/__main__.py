"""`python -m cti` is the command `cti`, for where its script is not on the path (`torchrun -m cti`)."""

import sys

from cti.cli import main

if __name__ == "__main__":
    sys.exit(main())
