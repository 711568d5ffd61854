"""Places and names as people, and other systems, make them: they work, or one line says why not."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image
from rich.console import Console

from support.disks import with_disk
from support.place import ONE_AT_A_TIME, Done, Place, finish, place_in
from tune_tl import leaderboard
from tune_tl.data.locating import find_dataset
from tune_tl.record.folder import name_for
from tune_tl.spaces import reading

CLASSES = (
    "<script>alert(1)<", "a'b\"c", "-rf", "con", " ", "$x^", "=cmd|x", "[red]", "\N{ELEPHANT}", "Cat", "cat",
    "\u00e9", "e\u0301",
)  # fmt: skip
# Five folders of at most 255 bytes each, as one path: near a thousand bytes.
DEEP = ("x" * 200, 'it\'s [red] "odd" é漢\N{ELEPHANT} #%41&;$HOME`*', "y" * 250, " z " + "z" * 200, "w" * 250)
NAME = "été 1.2_x-"
EACH = 5


def paint(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_in(tmp_path_factory.mktemp("paths") / "work [red] é #%;&") as found:
        yield found


@pytest.fixture(scope="module")
def deep(place: Place) -> Path:
    """A folder of images that has everything odd about it, and a space beside it."""
    folder = place.folder.parent.joinpath(*DEEP)
    data = folder / "my [red] data"
    for n, label in enumerate((*CLASSES, "..x")):
        (data / label).mkdir(parents=True)
        for image in range(EACH):
            paint(data / label / f"{image}.png", 100 * n + image)
    (data / "con" / "two\nlines.jpg").write_text("no image")
    paint(Path(os.fsdecode(os.fsencode(data / "con") + b"/caf\xe9.png")), 1)
    (folder / "my 'space' [b].yaml").write_text(
        f"dataset: ./{data.name}\nbackbone: efficientnet_lite0\nimage_size: 32\nepochs: 1\nbad_images: drop\n"
    )
    return folder


@pytest.fixture(scope="module")
def done(place: Place, deep: Path) -> Done:
    """A whole search on it, of one trial."""
    command = [sys.executable, "-m", "tune_tl.search", str(deep / "my 'space' [b].yaml"), *ONE_AT_A_TIME]
    return finish(
        place.start([*command, "--trials", "1", "--name", NAME, "--output", str(deep / "out [red]")])
    )


def test_a_search_in_odd_places_on_odd_names_comes_to_its_end(done: Done) -> None:
    assert (done.code, done.err) == (0, "")


def test_what_is_odd_is_told(done: Done, deep: Path) -> None:
    lines = [line.strip() for line in done.out.splitlines()]
    for line in (
        r"'con/two\nlines.jpg': no image in a known format",
        f"local: {deep / 'my [red] data'}",
        "look alike, but are 2 classes: 'Cat', 'cat'",
        r"look alike, but are 2 classes: 'e\u0301', '\xe9'",
        "hidden and left out: '..x'",
    ):
        assert line in lines
    assert f"{len(CLASSES) * EACH + 1} images in {len(CLASSES)} classes" in done.out


def test_its_record_is_whole(done: Done, deep: Path) -> None:
    folder = deep / "out [red]" / NAME
    search = json.loads((folder / "search.json").read_text())
    assert search["class_names"] == sorted(CLASSES)
    assert json.loads((folder / "result.json").read_text())["trials"] == 1
    noted = json.loads((folder / "images.json").read_text())
    assert {label: len(paths) for label, paths in noted.items()} == {
        label: EACH + (label == "con") for label in CLASSES
    }


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_its_page_shows_the_names_and_runs_nothing(done: Done, deep: Path) -> None:
    page = Tags((deep / "out [red]" / NAME / "leaderboard.html").read_text())
    assert "script" not in page.tags
    for label in CLASSES:
        assert label in page.text


def test_mlflow_has_it_under_names_that_it_takes(place: Place, done: Done) -> None:
    runs = place.runs()
    assert {run.info.status for run in runs} == {"FINISHED"}
    (trial,) = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    scores = [name for name in trial.data.metrics if name.startswith("val_f1.")]
    assert len(scores) == len(CLASSES)
    client = MlflowClient(f"sqlite:///{place.folder / 'mlflow.db'}")
    assert "my 'space' [b]" in {experiment.name for experiment in client.search_experiments()}


def test_its_commands_can_be_pasted(done: Done, deep: Path) -> None:
    (line,) = [line for line in done.out.splitlines() if line.startswith("TensorBoard ")]
    folder = str(deep / "out [red]" / NAME / "tensorboard")
    assert shlex.split(line) == ["TensorBoard", "tensorboard", "--logdir", folder]


def test_the_leaderboard_finds_it(
    done: Done, deep: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page [red] é.html"
    assert leaderboard.main([NAME, "--output", str(deep / "out [red]"), "--html", str(page)]) == 0
    assert capsys.readouterr().out.startswith(f"{NAME}  1 trial")
    assert page.exists()


def refused(*argv: str, cwd: Path, before: tuple[str, ...] = ()) -> str:
    """The one line that is said of it."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [*before, sys.executable, "-m", "tune_tl.search", *argv],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    return done.stderr


def test_an_output_folder_that_may_only_be_read_is_refused_at_once(tmp_path: Path) -> None:
    """Root, too, cannot write there."""
    disk = with_disk(tmp_path / "out", "ro")
    message = refused("garbage", "--output", "out/runs", cwd=tmp_path, before=tuple(disk))
    assert "--output 'out/runs' cannot be written" in message


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("x" * 300, "File name too long"),
        ("/".join(["y" * 250] * 17), "File name too long"),
        ("two\nlines", "no text"),
        ("\x1b[31mred", "no text"),
        (os.fsdecode(b"caf\xe9"), "no text"),
    ],
    ids=["name too long", "path too long", "newline", "escape", "no UTF-8"],
)
def test_an_output_folder_that_cannot_be_is_refused_at_once(tmp_path: Path, output: str, said: str) -> None:
    message = refused("garbage", "--output", output, cwd=tmp_path)
    assert "--output" in message
    assert said in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["what?", "100%25", "/".join(["y" * 200] * 3)], ids=["question mark", "code", "too long"]
)
def test_a_place_where_sqlite_keeps_nothing_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """MLflow would keep its record elsewhere, or nowhere."""
    cwd = tmp_path / name
    cwd.mkdir(parents=True)
    assert "give --tracking-uri another" in refused("garbage", cwd=cwd)
    assert [path.name for path in tmp_path.iterdir()] == [name.partition("/")[0]]


def test_data_that_may_only_be_read_is_read(tmp_path: Path) -> None:
    """The images lie on a read-only disk, such as a camera's card."""
    fill = (
        "import sys; from pathlib import Path; from tune_tl.data.folder import scan\n"
        "print(len(scan(Path(sys.argv[1]), name='x').images))"
    )
    for label in ("cat", "dog"):
        (tmp_path / "card" / label).mkdir(parents=True)
        for n in range(EACH):
            paint(tmp_path / "card" / label / f"{n}.png", n)
    only = with_disk(tmp_path / "other", "size=1m")
    mount = f'mount -o bind,ro "{tmp_path}/card" "{tmp_path}/card" && exec "$@"'
    command = [*only, "sh", "-c", mount, "sh", sys.executable, "-c", fill, str(tmp_path / "card")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "10\n"


def test_a_name_goes_before_a_folder_of_that_name_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root in (tmp_path / "shelf" / "garbage", tmp_path / "here" / "garbage"):
        for label in ("glass", "paper"):
            (root / label).mkdir(parents=True)
            for n in range(EACH):
                paint(root / label / f"{n}.png", n)
    monkeypatch.setenv("TUNE_TL_DATA", str(tmp_path / "shelf"))
    console = Console(quiet=True)
    note = "not the folder 'garbage' that lies here: its name is ./garbage"

    def found(argument: str) -> tuple[Path, bool]:
        space, data = reading.load(argument)
        dataset = find_dataset(space.dataset, data, console, space=space.name)
        return dataset.root, note in dataset.notes

    monkeypatch.chdir(tmp_path)
    assert found("garbage") == (tmp_path / "shelf" / "garbage", False)
    monkeypatch.chdir(tmp_path / "here")
    assert found("garbage") == (tmp_path / "shelf" / "garbage", True)
    assert found("./garbage") == (tmp_path / "here" / "garbage", False)


@pytest.mark.parametrize("space", [*CLASSES, "..x", "a\nb", "x" * 250, "漢" * 80])
def test_a_search_is_named_after_any_space(tmp_path: Path, space: str) -> None:
    name = name_for(tmp_path, None, space, resume=False)
    assert re.fullmatch(r"\w[\w.-]*", name)
    assert name_for(tmp_path, name, space, resume=False) == name
