"""`ich3d predict` as a script: see `python scripts/predict.py --help`."""

import sys

from ich3d.cli.parser import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
