"""`ich3d ablate` as a script: see `python scripts/ablate.py --help`."""

import sys

from ich3d.cli.parser import main

if __name__ == "__main__":
    sys.exit(main(["ablate", *sys.argv[1:]]))
