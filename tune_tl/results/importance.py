"""Which parameters of the space decided how good a trial became."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tune_tl.experiment import TrialResult
from tune_tl.spaces.space import Choice, Domain, Space

LEAST = 10  # trials below which nothing is said; the range shows how little a few of them tell
DRAWS = 6  # of the trials, with replacement: how far the estimate depends on which there happen to be
MOST = 100  # trials in a draw: more take long and say the same
TREES = 24
SEED = 0


@dataclass(frozen=True)
class Importance:
    """The share of val_f1's variance that a parameter explains, over the `trials` that have it.

    `share` is the median of DRAWS resamples, `low` and `high` their ends; None where too few trials have
    the parameter. A `conditional` one is not drawn for every trial: its share is of the trials that have it,
    and so no part of the same whole as the others'.
    """

    name: str
    trials: int
    share: float | None = None
    low: float | None = None
    high: float | None = None
    conditional: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def importances(results: Iterable[TrialResult], space: Space) -> tuple[Importance, ...]:
    """What each parameter that varies is worth, the weightiest first; none below LEAST trials with a score.

    fANOVA (Hutter, Hoos & Leyton-Brown 2014, https://proceedings.mlr.press/v32/hutter14.html) as Optuna has
    it, on each trial's best val_f1, early-stopped ones included.
    """
    scored = {r.trial: r for r in results if r.best}
    points = [(space.point(r.config), r.val_f1 or 0.0) for r in scored.values()]
    if len(points) < LEAST:
        return ()
    having: dict[tuple[int, ...], list[str]] = {}  # names by the points that have them
    for name in dict.fromkeys(name for point, _ in points for name in point):
        having.setdefault(tuple(i for i, (point, _) in enumerate(points) if name in point), []).append(name)
    found = []
    for rows, names in having.items():
        shares = _shares([points[i] for i in rows], space) if len(rows) >= LEAST else {}
        some = len(rows) < len(points)
        for name in names:
            share, low, high = shares.get(name, (None, None, None))
            found.append(Importance(name, len(rows), share, low, high, conditional=some))
    return tuple(sorted(found, key=lambda i: (i.conditional, -(i.share or 0.0), i.name)))


def _shares(
    points: Sequence[tuple[Mapping[str, Any], float]], space: Space
) -> dict[str, tuple[float, float, float]]:
    """Median, lowest and highest share, in resamples of `points`, of each parameter that they all have.

    Empty where val_f1 does not vary, for then there is nothing to explain.
    """
    import optuna  # takes a second
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = [name for name in points[0][0] if all(name in point for point, _ in points)]
    scale = {name: _distribution(space.domains[name], [point[name] for point, _ in points]) for name in names}
    random, seen = np.random.default_rng(SEED), []
    for draw in range(DRAWS):
        drawn = [points[i] for i in random.integers(0, len(points), min(len(points), MOST))]
        if len({f1 for _, f1 in drawn}) < 2:
            continue
        study = optuna.create_study(direction="maximize")
        study.add_trials(
            create_trial(params={n: point[n] for n in names}, distributions=scale, value=f1)
            for point, f1 in drawn
        )
        evaluator = FanovaImportanceEvaluator(n_trees=TREES, seed=SEED + draw)
        seen.append(get_param_importances(study, evaluator=evaluator, params=names))
    return {
        name: (float(np.median(shares)), float(min(shares)), float(max(shares)))
        for name in names
        if (shares := [each[name] for each in seen])
    }


def _distribution(domain: Domain, drawn: Iterable[Any]) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(domain, Choice):  # with what an earlier run of the search had besides
        return CategoricalDistribution(list(dict.fromkeys([*domain.values, *drawn])))
    if isinstance(domain.low, int) and isinstance(domain.high, int):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    return FloatDistribution(domain.low, domain.high, log=domain.log)
