"""What is known before a search starts: whose weights are wanted, and what may be cut off a backbone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tune_tl.errors import BadInput
from tune_tl.experiment import TrialConfig
from tune_tl.preflight import weights as preflight
from tune_tl.spaces import reading
from tune_tl.training.backbones import BACKBONES
from tune_tl.training.weights import Pretrained


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there


def weights_for(folder: Path, text: str) -> tuple[dict[str, Pretrained], dict[str, str]]:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return preflight.find_weights(reading.load(str(path))[0])


def test_what_starts_from_nothing_needs_no_weights(tmp_path: Path) -> None:
    ready, missing = weights_for(tmp_path, "backbone: [vgg16, tank_cnn]\npretrained: false")
    assert {name: found.origin for name, found in ready.items()} == {"vgg16": "none", "tank_cnn": "none"}
    assert not missing
    ready, missing = weights_for(tmp_path, "backbone: [tank_cnn, small_resnet]")
    assert ready.keys() == {"tank_cnn", "small_resnet"}


def test_a_search_that_could_transfer_nothing_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no backbone of space 'mine' has its pretrained weights"):
        weights_for(tmp_path, "backbone: [vgg16, tank_cnn]")


@pytest.mark.parametrize(
    ("name", "drop", "said"),
    [
        ("resnet18", "4", ""),
        ("resnet18", "5", "drop_stages 5 leaves nothing of resnet18, which has 5 stages"),
        ("resnet18", "{low: 0, high: 9}", "drop_stages 9 leaves nothing of resnet18"),
        ("tank_cnn", "9", ""),  # nothing is cut off what starts from nothing
        ("resnet50", "1", ""),
        ("swin_t", "0", ""),
        ("swin_t", "1", "the stages of swin_t do not give channels, height and width in this order"),
    ],
)
def test_only_what_can_be_averaged_is_cut_short(tmp_path: Path, name: str, drop: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"backbone: {name}\ndrop_stages: {drop}\n", encoding="utf-8")
    space, _ = reading.load(str(path))
    ready = [Pretrained(preflight._describe(name), Path(), "cache")]
    if not said:
        preflight.require_stages(space, ready)
        return
    with pytest.raises(BadInput, match=re.escape(said)):
        preflight.require_stages(space, ready)


def test_images_are_not_decoded_at_sizes_that_no_trial_asks_for() -> None:
    space = reading.load("cifar10")[0]
    assert space.sizes(BACKBONES["resnet18"]) == {96, 128}
    assert space.sizes(BACKBONES["small_resnet"]) == {32}


def test_a_trial_of_an_earlier_record_keeps_its_key() -> None:
    """As versions before these fields made them."""
    old = TrialConfig("vgg16", unfreeze="all", body_lr=1e-3, augment="none")
    assert TrialConfig("resnet18").key == "1de173a9"
    assert old.key == "feb4d485"
    others = [
        {"pretrained": False},
        {"drop_stages": 1},
        {"head_layers": 2},
        {"head_width": 64},
        {"grayscale": True},
    ]
    assert len({replace(old, **other).key for other in [{}, *others]}) == 6  # type: ignore[arg-type]
