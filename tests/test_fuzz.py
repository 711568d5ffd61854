"""Whatever is in a file or on a command line, it is understood or refused in one line, and at once.

Spaces, the ledger, the JSON files of a search, images, archives, command lines: made up, or real ones that
were changed somewhere.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tune_tl.data import decoding
from tune_tl.data.sources.archive import unpack_zip
from tune_tl.data.sources.download import Unavailable
from tune_tl.driver import options
from tune_tl.errors import BadInput
from tune_tl.experiment import CONFIG_FIELDS
from tune_tl.record import ledger
from tune_tl.record.book import Book
from tune_tl.report.text import text
from tune_tl.results import leaderboard_files, loading
from tune_tl.spaces import reading
from tune_tl.spaces.reading import SETTINGS

AT_ONCE = 2.0  # seconds

often = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
seldom = settings(often, max_examples=60)


@contextlib.contextmanager
def understood_or(*refusals: type[Exception]) -> Iterator[None]:
    """Either nothing is raised, or one of `refusals` in one line; and it does not take long."""
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except refusals as error:
            assert str(error)
            assert "\n" not in str(error)
            assert len(str(error)) < 3000
    assert time.process_time() - start < AT_ONCE


def changed(content: bytes, draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """`content`, less its end perhaps, with some bytes changed, put in, taken out or doubled."""
    changed = bytearray(content)
    if draw(st.integers(0, 4)) == 0:
        del changed[draw(st.integers(0, len(changed))) :]
    for _ in range(draw(st.integers(0, 4))):
        # Most of what a reader decides by stands at the head of a file.
        at = draw(st.one_of(st.integers(0, min(99, len(changed))), st.integers(0, len(changed))))
        span = draw(st.integers(0, 9))
        new = draw(
            st.one_of(
                st.binary(max_size=9),
                st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"-1", b"1e999", b"[" * 2000]),
                st.just(bytes(changed[at : at + span]) * 2),
            )
        )
        changed[at : at + span] = new
    return bytes(changed)


# Spaces


KEYS = st.sampled_from([*SETTINGS, *CONFIG_FIELDS, "low", "high", "log", "<<", "x", "1", "null", "~"])
WORDS_OF_YAML = [
    "resnet18", "all", "1e-4", "10m", "drop", "true", "null", "~", ".nan", ".inf", "-.inf", "1_0", "0x1f",
    "0b_", "2024-01-01", "2024-13-45", "1:2:3", "!!int x", "!!float x", "!!binary =", "!!set {a}", "!x y",
    "!!python/object/apply:os.system [x]", "!!python/name:os.system", "&a x", "*a", "|", ">", "-", "'", '"',
    "9" * 5000, "0x" + "f" * 5000, "1:" * 2000 + "1", "'\\0'", '"\\0"', '"\\ud800"', "a\x85b", "\ufeff",
]  # fmt: skip
SCALARS = st.one_of(
    st.sampled_from(WORDS_OF_YAML), st.text(max_size=12), st.integers().map(str), st.floats().map(str)
)
FLOW = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(st.one_of(KEYS, inner), inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=8,
)
NESTED = st.sampled_from(["[", "{", "{a: ", "- ", "? ", "!!set ", "&a [", "? - "])
DOCUMENTS = st.one_of(
    st.lists(st.tuples(st.one_of(KEYS, SCALARS), FLOW), max_size=6).map(
        lambda pairs: "backbone: resnet18\n" + "\n".join(f"{key}: {value}" for key, value in pairs)
    ),
    st.tuples(st.just("backbone: a\nfirst: "), NESTED, st.integers(1, 20_000)).map(
        lambda parts: parts[0] + parts[1] * parts[2]
    ),
    st.text("{}[]&*!|>-:#'\"\n 0azé\t,?%@<~", max_size=60),
    st.text(max_size=60),
)


@often
@given(st.data())
def test_any_text_is_a_space_or_refused(tmp_path_factory: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    content = data.draw(DOCUMENTS).encode("utf-8", "surrogatepass")
    path.write_bytes(content)
    with understood_or(BadInput):
        reading.load(str(path))


SHIPPED = [path.read_bytes() for path in reading.available().values()]


@often
@given(st.data())
def test_a_space_that_was_changed_somewhere_is_a_space_or_refused(
    tmp_path_factory: Any, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.yaml"
    path.write_bytes(changed(data.draw(st.sampled_from(SHIPPED)), data.draw))
    with understood_or(BadInput):
        reading.load(str(path))


# A search's folder

FILES = ("search.json", "result.json", ledger.EPOCHS_FILE, ledger.ENDS_FILE)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that was concluded, never touched."""
    from support.searches import make_search

    return make_search(tmp_path_factory.mktemp("fuzz"), "sound", trials=5)


def copied(sound: Path) -> Path:
    folder = sound.with_name("changed")
    shutil.rmtree(folder, ignore_errors=True)
    return Path(shutil.copytree(sound, folder))


def read(folder: Path) -> tuple[Any, ...]:
    """All that is ever asked of a record."""
    book = Book.read(folder)
    book.require_whole()
    return book.ended, book.unfinished, book.elapsed, len(book.lines)


@often
@given(st.data())
def test_a_line_that_was_changed_is_never_taken_for_another(sound: Path, data: st.DataObject) -> None:
    """What is read of a record that was changed is a beginning of each of its files, or nothing is."""
    folder = copied(sound)
    name = data.draw(st.sampled_from(FILES[2:]))
    content = (sound / name).read_bytes()
    (folder / name).write_bytes(changed(content, data.draw))
    with understood_or(BadInput):
        assert set(loading.load(folder).timeline) <= set(loading.load(sound).timeline)
        for result in read(folder)[0]:
            (twin,) = [known for known in Book.read(sound).ended if known.trial == result.trial]
            assert result.epochs == twin.epochs[: len(result.epochs)]
            assert (result.state, result.ended, result.reason) == (twin.state, twin.ended, twin.reason)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@often
@given(st.data())
def test_a_line_of_another_shape_is_refused(sound: Path, data: st.DataObject) -> None:
    """As an older version, or another program, may have written it: without a number and a checksum."""
    folder = copied(sound)
    name = data.draw(st.sampled_from(FILES[2:]))
    rows = [json.loads(line) for line in (sound / name).read_bytes().splitlines()]
    row = {key: value for key, value in rows[0].items() if key not in ("n", "crc")}
    for key in data.draw(st.lists(st.sampled_from(sorted(row)), min_size=1, max_size=3)):
        row[key] = data.draw(JSON)
    (folder / name).write_text(json.dumps(row) + "\n")
    with understood_or(BadInput):
        show(folder)


@seldom
@given(st.data())
def test_any_bytes_in_a_ledger_are_refused_or_nothing(sound: Path, data: st.DataObject) -> None:
    folder = copied(sound)
    for name in FILES[2:]:
        lines = data.draw(st.lists(st.binary(max_size=40) | JSON.map(lambda v: json.dumps(v).encode())))
        (folder / name).write_bytes(b"\n".join(lines))
    with understood_or(BadInput):
        read(folder)


def show(folder: Path) -> None:
    """What `python -m tune_tl.leaderboard` shows of a search, but for the pictures."""
    from rich.console import Console

    board = loading.load(folder)
    Console(file=io.StringIO()).print(text(board))
    json.dumps(leaderboard_files.to_dict(board))


def replaced(values: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """`values` with something else, or nothing, somewhere in it."""
    if isinstance(values, dict | list) and values and draw(st.integers(0, 9)):
        items = dict(enumerate(values)) if isinstance(values, list) else dict(values)
        key = draw(st.sampled_from(sorted(items)))
        if draw(st.integers(0, 5)):
            items[key] = replaced(items[key], draw)
        else:
            del items[key]
        return list(items.values()) if isinstance(values, list) else items
    return draw(JSON)


@often
@given(st.data())
def test_a_search_whose_json_says_other_things_is_shown_or_refused(sound: Path, data: st.DataObject) -> None:
    folder = copied(sound)
    name = data.draw(st.sampled_from(FILES[:2]))
    values = json.loads((sound / name).read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        values = replaced(values, data.draw)
    (folder / name).write_text(json.dumps(values))
    with understood_or(BadInput):
        show(folder)


@seldom
@given(st.data())
def test_a_search_whose_json_was_changed_somewhere_is_shown_or_refused(
    sound: Path, data: st.DataObject
) -> None:
    folder = copied(sound)
    name = data.draw(st.sampled_from(FILES[:2]))
    (folder / name).write_bytes(changed((sound / name).read_bytes(), data.draw))
    with understood_or(BadInput):
        show(folder)


# Images


def saved(form: str, image: Image.Image, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **more)
    return buffer.getvalue()


def images() -> Iterator[bytes]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8))
    grey = np.asarray(noise.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    for form in ("JPEG", "PNG", "WEBP"):
        yield saved(form, noise, exif=exif)
    for form in ("GIF", "BMP", "PPM", "ICO", "AVIF", "JPEG2000"):
        yield saved(form, noise)
    for form in ("GIF", "WEBP", "TIFF"):
        yield saved(form, noise, save_all=True, append_images=[noise.rotate(180)])
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        yield saved("TIFF", noise, compression=compression)
    yield saved("JPEG", noise.convert("CMYK"))
    yield saved("PNG", noise.convert("P"), transparency=3)
    yield saved("PNG", Image.fromarray(grey.astype(np.uint16) * 257))
    yield saved("TIFF", Image.fromarray(grey.astype(np.uint16) * 257))
    yield saved("TIFF", Image.fromarray(grey.astype(np.float32)))


REAL = list(images())


@settings(often, max_examples=1500)
@given(st.data())
def test_an_image_that_was_changed_somewhere_is_one_or_refused(
    tmp_path_factory: Any, capfd: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.jpg"
    path.write_bytes(changed(data.draw(st.sampled_from(REAL)), data.draw))
    with understood_or(ValueError):
        (pixels,) = decoding.decode(path, [8])
        assert (pixels.shape, pixels.dtype) == ((8, 8, 3), np.uint8)


@often
@given(st.binary(max_size=200))
def test_any_bytes_are_an_image_or_refused(tmp_path_factory: Any, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.jpg"
    path.write_bytes(content)
    with understood_or(ValueError):
        decoding.decode(path, [8])


# Archives


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("set/a.jpg", b"abc" * 50)
        made.writestr("set/\u00e9/b.jpg", bytes(range(256)), compress_type=zipfile.ZIP_LZMA)
        with made.open("set/c.jpg", "w", force_zip64=True) as file:
            file.write(b"x" * 100)
    return buffer.getvalue()


ARCHIVE = archive()


@often
@given(st.data())
def test_an_archive_that_was_changed_somewhere_lands_in_its_folder_or_nowhere(
    tmp_path_factory: Any, data: st.DataObject
) -> None:
    base = tmp_path_factory.getbasetemp() / "archives"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    (base / "a.zip").write_bytes(changed(ARCHIVE, data.draw))
    with understood_or(Unavailable):
        unpack_zip(base / "a.zip", base / "out")
    assert {path.name for path in base.iterdir()} <= {"a.zip", "out"}


# Command lines

FLAGS = [
    "--data", "--trials", "--budget", "--epochs", "--strategy", "--seed", "--name", "--resume",
    "--retry-failed", "--output", "--tracking-uri", "--address", "--cpus-per-trial", "--gpus-per-trial",
    "--retries", "--stall", "--yes", "--help", "-h", "--", "-", "--tr",
]  # fmt: skip
# What a shell can pass on: anything but the null character; bytes that are no text as lone surrogates.
WORDS = st.text(st.characters(exclude_characters="\0", max_codepoint=0x2FFF), max_size=12)
VALUES = WORDS | st.sampled_from([
    "garbage", "default", ".", "..", "/", "~", "~x", "10m", "0", "1", "-1", "1e999", "nan", "9" * 500,
    "x" * 500, "sqlite:///x.db", "http://[", "\udcff", "tpe", "=", "@/etc/passwd",
])  # fmt: skip


@often
@given(
    st.lists(
        st.one_of(
            VALUES,
            st.sampled_from(FLAGS),
            st.tuples(st.sampled_from(FLAGS), VALUES).map("=".join),
        ),
        max_size=8,
    )
)
@pytest.mark.usefixtures("capsys")
def test_any_command_line_is_understood_or_refused(words: list[str]) -> None:
    with understood_or(BadInput):
        try:
            given = options.decide(options.parser().parse_args(words))
        except SystemExit as end:
            assert end.code == 0
            assert {"-h", "--help"} & set(words) or any(word.startswith("--h") for word in words)
        else:
            assert given.experiment("x").folder.is_absolute()
            assert given.resume_command("x")
