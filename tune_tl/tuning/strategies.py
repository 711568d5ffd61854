"""Search strategies: how trials are proposed (Optuna) and stopped early (halving.py), in named pairs.

A new one is one function that returns (searcher, scheduler), under the decorator; the parts below are for
all. Optuna and Ray are imported when one is used, so that the command line can list the names at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from ray.tune.schedulers import TrialScheduler

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
    return _proposals(brief, _independent(brief.seed)), _halving(brief)


@strategy
def asha_tpe(brief: Brief) -> tuple[OptunaProposals, TrialScheduler]:
    """Tree-structured Parzen estimators, the worse trials stopped early."""
    return _proposals(brief, _tpe(brief.seed)), _halving(brief)


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


def _halving(brief: Brief) -> TrialScheduler:
    from tune_tl.tuning.halving import Halving
    from tune_tl.tuning.scheduler import HalvingScheduler

    halving = Halving(brief.epochs)
    halving.recall(brief.past)
    return HalvingScheduler(halving)
