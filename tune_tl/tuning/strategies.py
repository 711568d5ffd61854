"""Search strategies: how trials are proposed (Optuna) and stopped early (Ray), in named pairs.

A new one is one function that returns (searcher, scheduler), under the decorator. Optuna and Ray are
imported when one is used, so that the command line can list the names at once.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from ray.tune.schedulers import TrialScheduler

    from tune_tl.record.ledger import Past
    from tune_tl.tuning.proposals import Brief, OptunaProposals

    Strategy = Callable[[Brief], tuple[OptunaProposals, TrialScheduler]]

STRATEGIES: dict[str, Strategy] = {}


def strategy(function: Strategy) -> Strategy:
    """Register a strategy under its function's name; raises ValueError if that is taken."""
    name = function.__name__.replace("_", "-")
    if name in STRATEGIES:
        raise ValueError(f"search strategy {name!r} is registered already")
    STRATEGIES[name] = function
    return function


@strategy
def random(brief: Brief) -> tuple[OptunaProposals, TrialScheduler]:
    """Independent draws, each trained to the end."""
    return _proposals(brief, _independent(brief.seed)), _to_the_end()


@strategy
def tpe(brief: Brief) -> tuple[OptunaProposals, TrialScheduler]:
    """Tree-structured Parzen estimators, each trial trained to the end."""
    return _proposals(brief, _tpe(brief.seed)), _to_the_end()


@strategy
def asha_random(brief: Brief) -> tuple[OptunaProposals, TrialScheduler]:
    """Independent draws, the worse ones stopped early."""
    return _proposals(brief, _independent(brief.seed)), _asha(brief.epochs)


@strategy
def asha_tpe(brief: Brief) -> tuple[OptunaProposals, TrialScheduler]:
    """Tree-structured Parzen estimators, the worse trials stopped early."""
    return _proposals(brief, _tpe(brief.seed)), _asha(brief.epochs)


def _proposals(brief: Brief, sampler: BaseSampler) -> OptunaProposals:
    from tune_tl.tuning.proposals import OptunaProposals

    return OptunaProposals(brief, sampler)


def _independent(seed: int) -> BaseSampler:
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def _tpe(seed: int) -> BaseSampler:
    import warnings

    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import TPESampler

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # Without `group`, parameters that only some trials have (body_lr) fall out of the multivariate
        # model. Trials run side by side, hence the constant liar.
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _to_the_end() -> TrialScheduler:
    from ray.tune.schedulers import FIFOScheduler

    return FIFOScheduler()


def _asha(epochs: int) -> TrialScheduler:
    """Asynchronous successive halving (Li et al. 2020, https://arxiv.org/abs/1810.05934, algorithm 2).

    Rungs at a quarter of the epochs, where the one-cycle schedule's warm-up ends, and at half, each
    passed by the better half: what gets to its low learning rates is let finish. Compared is the best
    epoch so far, as on the leaderboard, and like with like: a head on frozen features is nearly there after
    an epoch, an unfrozen body climbs as long as the learning rate falls, and a network that starts from
    nothing is behind at every rung. Compared with each other, the slower would not get to show what they
    can do.
    """
    from ray.tune.schedulers import ASHAScheduler

    from tune_tl.experiment import BEST, EPOCH, TrialConfig

    class Asha(ASHAScheduler):  # type: ignore[misc]  # Ray ships no types
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            new = partial(copy.deepcopy, self._brackets[0])
            self._alike: defaultdict[tuple[bool, bool], Any] = defaultdict(new)

        def bracket(self, config: TrialConfig) -> Any:
            return self._alike[config.pretrained, config.unfreeze == 0]

        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            """What `recall` told of this trial is known by its key, and from now on by Ray's name for it."""
            super().on_trial_add(tune_controller, trial)
            config = TrialConfig.from_dict(trial.config)
            self._trial_info[trial.trial_id] = bracket = self.bracket(config)
            for _, recorded in bracket._rungs:
                if config.key in recorded:
                    recorded[trial.trial_id] = recorded.pop(config.key)

    return Asha(
        time_attr=EPOCH,
        metric=BEST,
        mode="max",
        max_t=epochs,
        grace_period=math.ceil(epochs / 4),
        reduction_factor=2,
    )


def recall(scheduler: TrialScheduler, past: Past) -> None:
    """Let a scheduler that stops trials early know what was reached before it was there, by trials' keys."""
    if not hasattr(scheduler, "bracket"):  # it stops none
        return
    reached = {r.config: r.epochs for r in past.ended if r.best}
    for config, epochs in [*reached.items(), *past.cut_off.items()]:
        known = SimpleNamespace(trial_id=config.key)
        for metrics in epochs:
            scheduler.bracket(config).on_result(known, metrics.epoch, metrics.best_val_f1)
