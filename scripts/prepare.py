"""`ich3d prepare` as a script: see `python scripts/prepare.py --help`."""

import sys

from ich3d.cli.parser import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
