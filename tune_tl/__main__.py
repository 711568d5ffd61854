"""`python -m tune_tl`: which commands there are."""

from __future__ import annotations

import argparse
import sys

from tune_tl.errors import BadInput, near
from tune_tl.terminal.door import Parser, door

DOORS = {
    "search": "find the best way to transfer a pretrained network to a folder of labelled images",
    "leaderboard": "the trials of a search, ranked and compared",
    "audit": "what is odd, doubled or doubtful in a folder of images",
    "collect": "images of classes that have no dataset, from the web",
    "cache": "what is kept on this machine, and how to clear it",
    "sync": "bring into MLflow what it missed of a search",
}


def parser() -> argparse.ArgumentParser:
    made = Parser(prog="python -m tune_tl", description=__doc__, add_help=False)
    made.add_argument("-h", "--help", action="store_true")
    made.add_argument("words", nargs="*")
    return made


@door(parser)
def main(arguments: argparse.Namespace) -> int:
    """Print them; 2 if one was named, for each is a module of its own."""
    if words := arguments.words:
        hint = f"; it is python -m tune_tl.{words[0]}" if words[0] in DOORS else near(words[0], DOORS)
        raise BadInput(f"{words[0]!r} is no argument of python -m tune_tl{hint}")
    width = max(map(len, DOORS))
    for name, does in DOORS.items():
        print(f"python -m tune_tl.{name:{width}}  {does}")
    print("Each says more with --help. The first: python -m tune_tl.search garbage --budget 4m")
    return 0


if __name__ == "__main__":
    sys.exit(main())
