"""Successive halving as Ray Tune asks for it."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tune_tl.experiment import BEST, EPOCH, TrialConfig
from tune_tl.tuning.halving import Halving

CONTINUE: str = TrialScheduler.CONTINUE
STOP: str = TrialScheduler.STOP


class HalvingScheduler(FIFOScheduler):  # type: ignore[misc]  # Ray ships no types
    """Starts trials in the order in which they are proposed, and stops those that `halving` does."""

    def __init__(self, halving: Halving) -> None:
        super().__init__()
        self.halving = halving

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if EPOCH not in result:  # it returned without an epoch
            return CONTINUE
        config = TrialConfig.from_dict(trial.config)
        return CONTINUE if self.halving.goes_on(config, result[EPOCH], result[BEST]) else STOP
