"""Which trials are stopped early: asynchronous successive halving, by trials' configs and without Ray."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from tune_tl.experiment import TrialConfig
from tune_tl.record.ledger import Past

FACTOR = 2  # from one rung to the next there are so many times the epochs, and one in so many trials left
Rungs = dict[int, dict[str, float]]  # epochs, the most first -> what each trial had reached by then, by key


class Halving:
    """Asynchronous successive halving (Li et al. 2020, https://arxiv.org/abs/1810.05934, algorithm 2).

    Rungs at a quarter of the epochs, where the one-cycle schedule's warm-up ends, and at half, each
    passed by the better half: what gets to its low learning rates is let finish. Compared is the best
    epoch so far, as on the leaderboard, and like with like: a head on frozen features is nearly there after
    an epoch, an unfrozen body climbs as long as the learning rate falls, and a network that starts from
    nothing is behind at every rung. Compared with each other, the slower would not get to show what they
    can do.
    """

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._groups: defaultdict[tuple[bool, bool], Rungs] = defaultdict(self._new_rungs)

    def goes_on(self, config: TrialConfig, epoch: int, score: float) -> bool:
        """Whether to train a trial on that has come to `score` (higher is better) after `epoch` epochs."""
        return epoch < self._epochs and self._passes(config, epoch, score)

    def recall(self, past: Past) -> None:
        """Compare with what trials reached in earlier runs of the search, too; those that failed left out."""
        reached = {r.config: r.epochs for r in past.ended if r.best} | dict(past.cut_off)
        for config, epochs in reached.items():
            for metrics in epochs:
                self._passes(config, metrics.epoch, metrics.best_val_f1)

    def rungs(self, config: TrialConfig) -> Rungs:
        """The rungs of the trials that are like this one."""
        return self._groups[config.pretrained, config.unfreeze == 0]

    def _new_rungs(self) -> Rungs:
        first = math.ceil(self._epochs / 4)
        # None at the end, where every trial stops anyway.
        return {n: {} for n in (first * FACTOR, first) if n < self._epochs}

    def _passes(self, config: TrialConfig, epoch: int, score: float) -> bool:
        """Whether a trial may pass the highest rung that it has come to, where it is looked at only once."""
        for milestone, scores in self.rungs(config).items():
            if epoch >= milestone and config.key not in scores:
                others = list(scores.values())
                scores[config.key] = score
                # Against those who were here before: the first of all passes, and so does a NaN.
                return not others or not score < np.nanpercentile(others, 100 * (1 - 1 / FACTOR))
        return True
