"""`driftgate` and `python -m driftgate`."""

import sys

from driftgate.cli import main

if __name__ == "__main__":
    sys.exit(main())
