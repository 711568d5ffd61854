"""What a person sees while a search runs, on a terminal and in a log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tune_tl.driver.display import BEST_EVERY_S, LINE_EVERY_S, Display
from tune_tl.experiment import EpochMetrics, Experiment, State, TrialConfig, TrialResult
from tune_tl.record.ledger import Past

ONE = TrialConfig("mobilenet_v2", unfreeze=3, epochs=8)
TWO = TrialConfig("resnet18", epochs=8)


class Screen:
    """A display that writes where the test reads, at times that the test sets."""

    def __init__(
        self,
        *,
        terminal: bool = False,
        past: Sequence[TrialResult] = (),
        budget_s: float | None = None,
        width: int = 120,
    ) -> None:
        self.now = 0.0
        self._file = StringIO()
        console = Console(file=self._file, force_terminal=terminal, width=width, highlight=False)
        experiment = Experiment("pets", 5, budget_s, "asha-tpe", 0, Path("/runs"))
        self.display = Display(experiment, console, lambda: self.now, budget_s, Past(tuple(past)))

    @property
    def text(self) -> str:
        return self._file.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


def epoch(number: int, f1: float) -> EpochMetrics:
    return EpochMetrics(number, 0.25, 0.5, f1, f1, (f1,), 140.0, 2.0)


def result(config: TrialConfig, *f1s: float, state: State = State.COMPLETED, **more: Any) -> TrialResult:
    epochs = tuple(epoch(n, f1) for n, f1 in enumerate(f1s, 1))
    return TrialResult(config.key, config, state, epochs, 0.0, 9.0, **more)


def test_a_log_gets_a_line_at_the_start_and_for_each_new_best_but_not_in_heaps() -> None:
    screen = Screen()
    with screen.display as display:
        display.begin(ONE)
        display.begin(TWO)
        told = ((3.0, ONE, 1, 0.5), (4.0, TWO, 1, 0.4), (5.0, ONE, 2, 0.5), (6.0, TWO, 2, 0.6))
        for now, config, number, f1 in (*told, (6 + BEST_EVERY_S / 2, ONE, 3, 0.7)):
            screen.now = now
            display.epoch(config, epoch(number, f1))
    assert screen.lines == [
        "0:00 · 0 of 5 trials done · 1 running",
        "0:03 · 0 of 5 trials done · 2 running · best val F1 0.500 (mobilenet_v2, 3 stages unfrozen, light, "
        "epoch 1)",
        "0:06 · 0 of 5 trials done · 2 running · best val F1 0.600 (resnet18, frozen, light, epoch 2)",
    ]


def test_a_log_gets_a_line_now_and_then_though_nothing_is_better() -> None:
    screen = Screen()
    with screen.display as display:
        display.begin(ONE)
        display.epoch(ONE, epoch(1, 0.5))
        for now in (1.0, LINE_EVERY_S - 1, LINE_EVERY_S, LINE_EVERY_S + 1):
            screen.now = now
            display.epoch(ONE, epoch(1, 0.5))
    assert [line.split(" ")[0] for line in screen.lines] == ["0:00", "0:20"]


def test_a_log_has_no_control_characters() -> None:
    screen = Screen()
    with screen.display as display:
        display.begin(ONE)
        display.epoch(ONE, epoch(1, 0.5))
        display.end(result(ONE, 0.5, state=State.FAILED, reason="Diverged: loss became nan in epoch 2"))
    assert screen.text.replace("\n", "").isprintable()


def test_a_failure_is_told_with_its_reason_and_is_never_the_best() -> None:
    screen = Screen()
    with screen.display as display:
        display.begin(ONE)
        display.epoch(ONE, epoch(1, 0.9))
        display.end(result(ONE, 0.9, state=State.FAILED, reason="Diverged: loss became nan in epoch 2"))
        display.begin(TWO)
        screen.now = 5.0
        display.epoch(TWO, epoch(1, 0.4))
    assert screen.lines[1] == f"trial {ONE.key} failed: Diverged: loss became nan in epoch 2"
    assert screen.lines[2].startswith(
        "0:05 · 1 of 5 trials done · 1 running · 1 failed · best val F1 0.400 ("
    )


def test_a_reason_is_printed_as_it_is() -> None:
    reason = "FileNotFoundError: [Errno 2] no such file [/data/red] [red]" + " and so on" * 20
    screen = Screen()
    with screen.display as display:
        display.begin(ONE)
        display.end(result(ONE, state=State.FAILED, reason=reason))
    assert screen.lines[1] == f"trial {ONE.key} failed: {reason}"


def test_the_time_left_is_the_budget_less_what_is_spent() -> None:
    screen = Screen(budget_s=3 * 3600)
    with screen.display as display:
        screen.now = 61.4
        display.begin(ONE)
        screen.now = 4 * 3600
        display.epoch(ONE, epoch(2, 0.6))
    assert [line.split(" · ")[0] for line in screen.lines] == ["1:01", "4h00m"]
    assert [line.split(" · ")[-1] for line in screen.lines] == ["2h58m left", "0:00 left"]


def test_a_resumed_search_goes_on_from_its_best() -> None:
    past = [result(ONE, 0.5, 0.8, 0.7), result(TWO, 0.9, state=State.FAILED, reason="Diverged")]
    screen = Screen(past=past)
    third = TrialConfig("vgg16", unfreeze="all", epochs=8)
    with screen.display as display:
        display.begin(third)
        screen.now = 5.0
        display.epoch(third, epoch(1, 0.7))
        assert len(screen.lines) == 2, "0.8 was there before"
        display.epoch(third, epoch(2, 0.85))
    assert screen.lines[0] == "going on with pets: 2 trials done, 4 epochs kept; left: 3 trials"
    assert screen.lines[2:] == [
        "0:05 · 2 of 5 trials done · 1 running · 1 failed · best val F1 0.850 (vgg16, all unfrozen, light, "
        "epoch 2)"
    ]


def test_a_terminal_shows_running_trials_the_best_and_the_time_left() -> None:
    screen = Screen(terminal=True, budget_s=600)
    with screen.display as display:
        display.begin(ONE)
        display.begin(TWO)
        display.epoch(ONE, epoch(3, 0.75))
        screen.now = 100.0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.text)
    panel = plain[plain.index("1:40 · ") :]
    assert panel.startswith(
        "1:40 · 0 of 5 trials done · 2 running · best val F1 0.750 (mobilenet_v2, 3 stages"
    )
    assert "8:20 left" in panel
    assert re.search(r"^━[━╺╸]+ *$", plain, re.MULTILINE)  # the bar has a line of its own
    assert re.search(r"running +epoch +val F1 +loss +images/s", plain)
    assert re.search(r"mobilenet_v2, 3 stages unfrozen, light +3/8 +0\.750 +0\.250 +140", plain)
    assert re.search(r"resnet18, frozen, light +0/8", plain)


@pytest.mark.parametrize(
    ("width", "said"), [(80, "light   3/8  0.750 0.250"), (40, "mobilenet_v2, 3 stages.*  3/8  0.750")]
)
def test_a_running_trial_has_one_line_however_narrow_the_terminal(width: int, said: str) -> None:
    screen = Screen(terminal=True, width=width)
    with screen.display as display:
        display.begin(ONE)
        display.epoch(ONE, epoch(3, 0.75))
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.text)
    (line,) = {line.rstrip() for line in plain.splitlines() if " 3/8" in line}
    assert len(line) <= width
    assert re.search(re.sub(" +", " +", said), line)


def test_a_trial_that_ended_leaves_the_panel() -> None:
    screen = Screen(terminal=True)
    with screen.display as display:
        display.begin(ONE)
        display.epoch(ONE, epoch(8, 0.75))
        display.end(result(ONE, 0.75))
        before = len(screen.text)
    last = screen.text[before:]  # closing draws the panel once more
    assert "1 of 5 trials done · 0 running" in last
    assert "8/8" not in last


@pytest.mark.parametrize(
    ("unfreeze", "words"),
    [(0, "frozen"), (1, "1 stage unfrozen"), (4, "4 stages unfrozen"), ("all", "all unfrozen")],
)
def test_a_trial_is_described_in_a_few_words(unfreeze: Any, words: str) -> None:
    assert TrialConfig("vgg16", unfreeze=unfreeze, augment="none").in_words == f"vgg16, {words}, none"
