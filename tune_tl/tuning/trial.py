"""One trial inside a Ray worker: the trainer's epochs, reported one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import tune

from tune_tl.data.folder import Dataset
from tune_tl.experiment import Experiment, TrialConfig
from tune_tl.training.weights import Pretrained

FAILED = "failed"  # in place of metrics: why a trial ended that would come out the same if tried again
SIGNS = "ray/alive"  # the folder with the trials' signs of life (see watch.py), in the search's


def run_trial(
    fields: dict[str, Any],
    *,
    experiment: Experiment,
    dataset: Dataset,
    pretrained: Mapping[str, Pretrained],
) -> None:
    """Train the TrialConfig of `fields`, reporting each epoch to Ray Tune.

    What only a worker needs is imported here: the driver, which names this function, starts sooner.
    """
    from tune_tl.tuning import warm

    warm.ready()
    import torch

    from tune_tl.data.store import open_images
    from tune_tl.training.checkpoint import Checkpoints
    from tune_tl.training.trainer import Diverged, train
    from tune_tl.tuning.watch import alive

    torch.set_num_threads(max(1, int(experiment.cpus_per_trial)))
    config = TrialConfig.from_dict(fields)
    chosen = pretrained[config.backbone]
    device = "cuda" if experiment.gpus_per_trial else "cpu"  # Ray hides the GPUs of other trials
    experiment.checkpoints.mkdir(exist_ok=True)
    files = Checkpoints(experiment.checkpoints, config.key)
    with alive(experiment.folder / SIGNS / config.key):
        images = open_images(dataset, config.image_size or chosen.backbone.size)
        try:
            for metrics in train(config, chosen, images, device=device, checkpoints=files):
                tune.report(metrics.to_dict())
        except Diverged as error:
            tune.report({FAILED: f"Diverged: {error}"})
