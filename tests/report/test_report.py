"""What a search leaves for people: a table, a page, pictures; honest, escaped and self-contained."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tune_tl.experiment import State, Transfer, TrialResult
from tune_tl.report import closeups, plots
from tune_tl.report import page as report
from tune_tl.report.text import BANNER, caution, text
from tune_tl.results import leaderboard_files, loading
from tune_tl.results.importance import LEAST
from tune_tl.results.look import MISTAKES
from tune_tl.results.ranking import About, Leaderboard, Row, Unranked
from tune_tl.results.scores import score

Trial = Callable[..., TrialResult]
Search = Callable[..., Path]
NASTY = ("<script>alert(1)</script>", "a & b", '"quoted"', "$5 and $10", "ünïcode", "x" * 60)


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory, search: Search) -> tuple[Path, Leaderboard, list[Path]]:
    """The whole report of a search on drawn images whose classes have the worst names."""
    folder = search(tmp_path_factory.mktemp("runs"), trials=16, classes=NASTY, source="sample", look=True)
    board = loading.load(folder)
    return folder, board, report.write(folder, board)


def test_every_file_is_written(nasty: tuple[Path, Leaderboard, list[Path]]) -> None:
    folder, _, written = nasty
    names = ["leaderboard.csv", "leaderboard.html", *(f"{name}.png" for name in plots.NAMES)]
    assert [path.name for path in written] == [*names, "classification_report.txt"]
    for path in written:
        assert path.parent == folder
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert min(image.size) > 400


def test_the_csv_holds_every_trial_and_no_score_of_a_failed_one(
    nasty: tuple[Path, Leaderboard, list[Path]],
) -> None:
    folder, board, _ = nasty
    with (folder / "leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    ranked, rest = [r for r in rows if r["rank"]], [r for r in rows if not r["rank"]]
    assert [r["trial"] for r in ranked] == [row.trial for row in board.rows]
    assert [float(r["val_f1"]) for r in ranked] == [row.val_f1 for row in board.rows]
    assert sum(bool(r["test_f1"]) for r in ranked) == len(board.finalists)
    assert rest
    assert all(r["state"] == "failed" and r["reason"] and not r["val_f1"] for r in rest)


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_csv_is_a_formula(tmp_path: Path, trial: Trial, first: str) -> None:
    failed = trial([0.9], state=State.FAILED, reason="=1+1", backbone=f"{first}1+1", head_lr=1e-3)
    leaderboard_files.write_csv(tmp_path / "x.csv", Leaderboard.of([failed], {}, About("x")))
    with (tmp_path / "x.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["backbone"], row["reason"], row["head_lr"]) == (f"'{first}1+1", "'=1+1", "0.001")


def test_what_is_no_text_is_written_escaped(tmp_path: Path, trial: Trial) -> None:
    failed = trial([0.9], state=State.FAILED, reason="OSError: '/caf\udce9.jpg'")
    for path in report.write(tmp_path, Leaderboard.of([failed], {}, About("caf\udce9"))):
        assert r"/caf\udce9.jpg" in path.read_text()


class Page(HTMLParser):
    """Collects what a browser would run or fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            value or ""
            for name, value in attrs
            if name in {"src", "href", "xlink:href", "srcset", "action", "data"}
        ]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_escapes_the_names_of_classes(nasty: tuple[Path, Leaderboard, list[Path]]) -> None:
    page = Page((nasty[0] / "leaderboard.html").read_text())
    assert "script" not in page.tags
    for name in NASTY:
        assert name in page.text


EVIL = "</style></svg>--><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}{% raw %}\"'&lt;"


def test_the_page_escapes_whatever_a_search_is_called(tmp_path: Path, search: Search) -> None:
    """Every name that comes from outside, at once; tags as of the same page with harmless names."""

    def shown(evil: str, folder: str) -> Page:
        made = search(tmp_path, name=folder, trials=4, classes=(evil, f"{evil} 2"))
        for file in ("search.json", "result.json"):
            facts = json.loads((made / file).read_text())
            facts |= {"name": evil, "space": evil, "strategy": evil, "versions": {evil: evil}}
            facts["dataset"] = facts["dataset"] | {"name": evil, "source": evil, "fingerprint": evil}
            (made / file).write_text(json.dumps(facts))
        board = loading.load(made)
        failed = Unranked(board.rows[0].result, Transfer.FULL, evil)
        return Page(report.page(replace(board, unranked=(failed,))))

    harmless, evil = shown("harmless", "one"), shown(EVIL, "two")
    assert evil.tags == harmless.tags
    assert [url for url in evil.fetched if not url.startswith(("#", "data:"))] == []
    assert sum(EVIL in text for text in evil.text) > 5  # in full, where there is room


def test_the_mistakes_are_inside_the_page_with_their_files(
    nasty: tuple[Path, Leaderboard, list[Path]],
) -> None:
    page, look = Page((nasty[0] / "leaderboard.html").read_text()), nasty[1].look
    assert look is not None
    assert 0 < len(look.mistakes) <= MISTAKES
    inside = [url for url in page.fetched if url.startswith("data:image/jpeg;base64,")]
    assert len(inside) == len(look.mistakes)
    assert (nasty[0] / "leaderboard.html").stat().st_size < 3e6


def test_a_champion_without_a_mistake_has_no_contact_sheet_and_the_page_says_so(
    tmp_path: Path, search: Search
) -> None:
    folder = search(tmp_path, trials=4, look=True, failures=False)
    board = loading.load(folder)
    (folder / "mistakes.png").write_bytes(b"of a report before")
    assert board.look and board.champion and board.champion.test
    labels = board.look.labels
    right = replace(
        board.look,
        probabilities=np.eye(3, dtype=np.float32)[labels],
        mistakes=board.look.mistakes[:0],
        thumbnails=board.look.thumbnails[:0],
    )
    report.write(folder, replace(board, look=right))
    assert not (folder / "mistakes.png").exists()
    assert "none: the champion takes each of the 240 test images" in (folder / "leaderboard.html").read_text()


def test_what_few_trials_cannot_tell_is_not_told(tmp_path: Path, search: Search) -> None:
    page = report.page(loading.load(search(tmp_path, trials=4)))
    assert f"that takes {LEAST} trials with a score" in page


def test_a_class_without_a_test_image_has_dashes_and_no_zeros() -> None:
    table = report.classification_report(score([0, 0, 1], [0, 1, 1], ("cat", "dog", "emu")))
    assert table.splitlines()[4].split() == ["emu", "-", "-", "-", "0"]
    assert table.splitlines()[-1] == "no test image of emu, which macro-F1 leaves out"
    taken = report.classification_report(score([0, 0, 1], [0, 2, 1], ("cat", "dog", "emu")))
    assert taken.splitlines()[4].split() == ["emu", "0.000", "-", "0.000", "0"]
    assert taken.splitlines()[-1] == table.splitlines()[-1]


def test_the_page_asks_nothing_of_the_network(nasty: tuple[Path, Leaderboard, list[Path]]) -> None:
    text = (nasty[0] / "leaderboard.html").read_text()
    assert [url for url in Page(text).fetched if not url.startswith(("#", "data:"))] == []
    assert re.findall(r"url\((?!#)[^)]*\)|@import", text) == []
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_ids_on_the_page_are_unique(nasty: tuple[Path, Leaderboard, list[Path]]) -> None:
    ids = re.findall(r' id="([^"]+)"', (nasty[0] / "leaderboard.html").read_text())
    assert len(ids) == len(set(ids))


def test_drawn_images_are_never_passed_off_as_photographs(tmp_path: Path, search: Search) -> None:
    for source in ("sample", "local"):
        board = loading.load(search(tmp_path, name=source, source=source, trials=2))
        assert (BANNER in report.page(board)) == (source == "sample")
        assert (BANNER in printed(board)) == (source == "sample")


def test_the_drawn_banner_is_in_the_pictures_too(tmp_path: Path, search: Search) -> None:
    """A strip above the title, in a red that nothing else at the head of a picture has."""

    def red(source: str) -> bool:
        folder = search(tmp_path, name=source, source=source, trials=1, failures=False)
        paths = [p for p in report.write(folder, loading.load(folder)) if p.suffix == ".png"]
        heads = [Image.open(path).convert("RGB").crop((0, 0, 900, 60)) for path in paths]
        return {(0xB3, 0x26, 0x1E) in set(head.get_flattened_data()) for head in heads} == {True}

    assert red("sample")
    assert not red("local")


@pytest.mark.parametrize(
    ("trials", "classes", "ended"),
    [
        (1, ("cat", "dog"), True),
        (2, ("cat",) * 1 + ("dog",), False),
        (60, tuple(f"c{n}" for n in range(35)), True),
    ],
)
def test_searches_of_every_size_are_reported(
    tmp_path: Path, search: Search, trials: int, classes: tuple[str, ...], ended: bool
) -> None:
    folder = search(tmp_path, trials=trials, classes=classes, ended=ended, failures=trials > 2)
    written = {path.name for path in report.write(folder, loading.load(folder))}
    assert "f1_over_time.png" in written
    assert ("confusion_matrix.png" in written) == ended


def test_a_search_without_a_score_is_reported_without_pictures(tmp_path: Path, trial: Trial) -> None:
    reason = "loss is NaN\nat step 3 <b>bold</b>"
    board = Leaderboard.of([trial([0.9], state=State.FAILED, reason=reason)], {}, About("broken"))
    assert [path.name for path in report.write(tmp_path, board)] == ["leaderboard.csv", "leaderboard.html"]
    page = (tmp_path / "leaderboard.html").read_text()
    assert "No trial has a score yet" in page
    assert "loss is NaN at step 3 &lt;b&gt;bold&lt;/b&gt;" in page
    assert "0.900" not in page + printed(board)


def test_an_empty_search_is_reported(tmp_path: Path) -> None:
    assert len(report.write(tmp_path, Leaderboard())) == 2


def test_an_epoch_without_a_number_leaves_a_gap(tmp_path: Path, trial: Trial) -> None:
    board = Leaderboard.of([trial([float("nan"), 0.5, float("nan"), 0.6])], {})
    assert "f1_over_time.png" in {path.name for path in report.write(tmp_path, board)}
    assert "nan" not in re.sub(r"<style>.*?</style>", "", report.page(board), flags=re.S).lower()


def test_the_classification_report_names_every_class(nasty: tuple[Path, Leaderboard, list[Path]]) -> None:
    text = (nasty[0] / "classification_report.txt").read_text()
    assert all(name in text for name in NASTY)
    champion: Row = nasty[1].rows[0]
    assert champion.test is not None
    assert f"{champion.test.f1:.3f}" in text


def printed(board: Leaderboard, width: int = 80, **options: object) -> str:
    console = Console(width=width, force_terminal=False, highlight=False)
    with console.capture() as captured:
        console.print(text(board, **options))  # type: ignore[arg-type]
    return captured.get()


@pytest.mark.parametrize("width", [40, 60, 71, 72, 80, 118, 200])
def test_the_tables_keep_their_width_and_every_number(
    nasty: tuple[Path, Leaderboard, list[Path]], width: int
) -> None:
    text = printed(nasty[1], width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for row in nasty[1].rows:
        assert row.trial in text
        assert row.config.backbone in text
        assert f"{row.val_f1:.3f}" in text
    for each in nasty[1].unranked:
        assert "".join(each.reason.split()) in "".join(text.split())  # wrapped where it is narrow


@pytest.mark.parametrize(
    ("behind", "said"),
    [
        ((0.01, 0.05), None),
        ((-0.01, 0.05), "So few test images cannot tell the champion from feature-extraction."),
        ((-0.08, -0.01), "On test feature-extraction is ahead of the champion, which validation chose."),
    ],
)
def test_who_is_ahead_on_test_is_said_as_it_is(
    trial: Trial, behind: tuple[float, float], said: str | None
) -> None:
    champion, other = trial([0.9], unfreeze=2), trial([0.8], unfreeze=0)
    tested = score([0, 1] * 9, [0, 1] * 9, ("a", "b"))
    scores = {champion.trial: tested, other.trial: replace(tested, behind=behind)}
    assert caution(Leaderboard.of([champion, other], scores)) == said


def test_a_long_leaderboard_can_be_cut_to_its_top(nasty: tuple[Path, Leaderboard, list[Path]]) -> None:
    _, board, _ = nasty
    text = printed(board, top=3)
    assert board.rows[2].trial in text
    assert board.rows[3].trial not in text
    assert f"{len(board.rows) - 3} more" in text


@pytest.mark.parametrize("length", [5, 40, 400])
def test_the_commonest_confusions_are_named_and_none_is_passed_over(trial: Trial, length: int) -> None:
    names = ("a" * length, "b", "c")
    tested = score([0] * 9 + [1] * 9 + [2] * 9, [1] * 5 + [0] * 4 + [2] * 3 + [1] * 6 + [2] * 9, names)
    result = trial([0.9])
    row = Leaderboard.of([result], {result.trial: tested}).rows[0]
    often = closeups.confusion_matrix(row).subtitle.partition("\n")[2]
    assert often.startswith("most often: ")
    counts = [int(pair.split()[-1]) for pair in often.split(" · ")]
    assert counts == [5, 3][: len(counts)]
    assert "…" not in often or length > 24
