"""`ich3d train` as a script: see `python scripts/train.py --help`."""

import sys

from ich3d.cli.parser import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
