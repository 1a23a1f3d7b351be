"""`python -m tui [DIR]`: the browser without the command line's other commands."""

import argparse
from pathlib import Path

from tui.app import run

parser = argparse.ArgumentParser(prog="python -m tui", description="Browse an atlas in the terminal.")
parser.add_argument("path", nargs="?", type=Path, metavar="DIR", help="folder of the atlas; default: the one in this folder")
parser.add_argument("--replay", type=Path, metavar="FILE", help="repeat the actions of a journal")
parser.add_argument("--journal", type=Path, metavar="FILE", help="write the actions to a journal")

if __name__ == "__main__":
    given = parser.parse_args()
    raise SystemExit(run(given.path, replay=given.replay, journal=given.journal))
