"""`python -m ich3d` is the same as the `ich3d` command."""

import sys

from ich3d.cli.parser import main

if __name__ == "__main__":
    sys.exit(main())
