"""Command lines whose mistakes are told in one line."""

from __future__ import annotations

import argparse
from typing import NoReturn

from tune_tl.experiment import BadInput


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error is said, and not below the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Raises BadInput."""
        raise BadInput(f"{' '.join(message.split())}; see {self.prog} --help")
