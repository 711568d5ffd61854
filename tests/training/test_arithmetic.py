"""Which numbers a device computes with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tune_tl.storage.files import cache_dir
from tune_tl.training import arithmetic

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which nothing was measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    arithmetic.precision.cache_clear()
    yield
    arithmetic.precision.cache_clear()


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)


def test_it_is_measured_once_for_a_machine_so_that_trials_repeat_themselves(
    able: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = arithmetic.precision(CPU)
    (said,) = json.loads((cache_dir() / arithmetic.FILE).read_text()).values()
    assert said == first
    monkeypatch.setattr(arithmetic, "_measured", lambda: pytest.fail("measured again"))
    arithmetic.precision.cache_clear()
    assert arithmetic.precision(CPU) == first


@pytest.mark.parametrize("faster", ["bf16", "f32"])
def test_what_is_faster_is_what_is_computed_with(
    faster: str, able: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arithmetic, "_measured", lambda: faster)
    with arithmetic.autocast(CPU):
        y = torch.nn.Linear(2, 2)(torch.ones(1, 2))
    assert y.dtype == {"bf16": torch.bfloat16, "f32": torch.float32}[faster]


def test_bfloat16_that_is_only_emulated_is_not_even_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(arithmetic, "_measured", lambda: pytest.fail("measured"))
    assert arithmetic.precision(CPU) == "f32"


@torch.no_grad()
def test_it_can_be_asked_first_where_no_gradients_are_kept(able: None) -> None:
    assert arithmetic.precision(CPU) in ("bf16", "f32")


def test_measuring_draws_nothing_from_torchs_generator(able: None) -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    arithmetic.precision(CPU)
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("content", ["", "[1]", '{"other": "bf16"}', "\0"])
def test_a_damaged_note_is_measured_again(content: str, able: None) -> None:
    cache_dir().mkdir(parents=True)
    (cache_dir() / arithmetic.FILE).write_text(content)
    assert arithmetic.precision(CPU) in ("bf16", "f32")
    assert json.loads((cache_dir() / arithmetic.FILE).read_text())


def test_a_cache_folder_that_cannot_be_written_is_no_reason_to_fail(
    able: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert arithmetic.precision(CPU) in ("bf16", "f32")
