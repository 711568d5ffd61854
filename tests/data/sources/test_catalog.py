from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.file_server import FileServer
from tune_tl.data.folder import scan
from tune_tl.data.sources import download
from tune_tl.data.sources.catalog import Resolved, published_split, resolve, sample_banner
from tune_tl.data.sources.entries import CATALOG, Archive, Entry, SplitList
from tune_tl.data.sources.verified import content_fingerprint
from tune_tl.data.splits import SPLITS
from tune_tl.errors import BadInput
from tune_tl.storage.files import cache_dir

GARBAGE = CATALOG["garbage"]
REAL = Path(__file__).parents[4] / "shared" / "datasets" / "garbage"
CLOSED = "http://127.0.0.1:1"  # nothing listens on port 1

# A tiny dataset of the same shape: what stands in for an image is never decoded here.
IMAGES = {
    f"{label}/{label}{n}.jpg": f"{label} {n}".encode() for label in ("glass", "paper") for n in (1, 2, 3)
}
LISTS = {
    "train": "glass1.jpg 1\npaper1.jpg 2\n",
    "val": "glass2.jpg 1\r\npaper2.jpg 2",
    "test": "glass3.jpg 1\npaper3.jpg 2\n\n",
}


def write(folder: Path, images: dict[str, bytes] = IMAGES, lists: dict[str, str] | None = None) -> Path:
    for name, content in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for split, text in (lists or {}).items():
        (folder.parent / f"{split}.txt").write_bytes(text.encode())
    return folder


def archive_of(entry: Entry) -> Archive:
    assert entry.archive
    return entry.archive


def at(entry: Entry, *urls: str) -> Entry:
    """The same entry, its archive to be had there."""
    return replace(entry, archive=replace(archive_of(entry), urls=urls))


def zipped(images: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in images.items():
            archive.writestr(f"tiny-set/{name}", content)
    return buffer.getvalue()


@pytest.fixture
def tiny(tmp_path: Path) -> Entry:
    """Its addresses lead nowhere."""
    root = write(tmp_path / "original" / "tiny-set")
    lists = tuple(
        SplitList(
            split, f"{split}.txt", (f"{CLOSED}/{split}.txt",), hashlib.sha256(text.encode()).hexdigest()
        )
        for split, text in LISTS.items()  # type: ignore[arg-type]
    )
    return Entry(
        name="garbage",
        title="Tiny Trash",
        licence="MIT",
        homepage="https://example.org/tiny",
        images=len(IMAGES),
        classes=2,
        layout="tiny-set/<class>/",
        archive=Archive((f"{CLOSED}/tiny.zip",), "tiny-set", fingerprint=content_fingerprint(root)),
        labels=("glass", "paper"),
        lists=lists,
        drawn=True,
    )


@pytest.fixture
def server() -> Iterator[FileServer]:
    files = {"tiny.zip": zipped(IMAGES)} | {f"{split}.txt": text.encode() for split, text in LISTS.items()}
    with FileServer(files) as serving:
        yield serving


@pytest.fixture
def online(tiny: Entry, server: FileServer) -> dict[str, Entry]:
    lists = tuple(replace(wanted, urls=(server.url(wanted.file),)) for wanted in tiny.lists)
    return {"garbage": replace(at(tiny, server.url("tiny.zip")), lists=lists)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples folder of a cache, filled the way a user without a network fills it."""
    home = tmp_path_factory.mktemp("offline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        patch.delenv("TUNE_TL_DATA", raising=False)
        resolve("garbage", catalog={"garbage": at(GARBAGE, f"{CLOSED}/a.zip")})
        return cache_dir() / "samples"


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TUNE_TL_DATA", raising=False)
    monkeypatch.setattr(download, "PAUSE_S", 0.005)


@pytest.fixture
def with_sample(empty_cache: None, drawn: Path) -> None:
    cache_dir().mkdir(parents=True)
    (cache_dir() / "samples").symlink_to(drawn)


# --- the registry -----------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", CATALOG.values(), ids=CATALOG)
def test_every_entry_says_whose_and_where_it_is(entry: Entry) -> None:
    assert CATALOG[entry.name] is entry
    assert entry.licence and entry.title and entry.layout
    assert entry.archive or entry.steps
    addresses = [url for wanted in entry.lists for url in wanted.urls]
    addresses += [entry.homepage] if entry.homepage else []
    if archive := entry.archive:
        addresses += archive.urls
        assert re.fullmatch(r"[0-9a-f]{16}" if archive.kind == "zip" else "", archive.fingerprint)
        assert archive.kind == "zip" or re.fullmatch(r"[0-9a-f]{64}", archive.sha256 or "")
    assert all(url.startswith("https://") for url in addresses)
    assert not entry.labels or len(set(entry.labels)) == entry.classes
    assert all(re.fullmatch(r"[0-9a-f]{64}", wanted.sha256) for wanted in entry.lists)
    assert not entry.lists or {wanted.split for wanted in entry.lists} == {"train", "val", "test"}


@pytest.mark.skipif(not REAL.is_dir(), reason="the real TrashNet is not beside this repository")
def test_the_known_fingerprint_and_split_are_those_of_the_real_images() -> None:
    archive = archive_of(GARBAGE)
    root = REAL / archive.folder
    assert content_fingerprint(root) == archive.fingerprint
    split = published_split(GARBAGE, root)
    assert split is not None and len(split) == GARBAGE.images
    counts = [list(split.values()).count(name) for name in ("train", "val", "test")]
    assert counts == [1768, 328, 431]
    for wanted in GARBAGE.lists:
        assert hashlib.sha256((REAL / wanted.file).read_bytes()).hexdigest() == wanted.sha256


def test_the_fingerprint_is_of_the_images_wherever_they_lie(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one"), write(tmp_path / "else" / "two")
    (two / "Thumbs.db").write_bytes(b"litter")
    assert content_fingerprint(one) == content_fingerprint(two)
    (two / "glass" / "glass1.jpg").rename(two / "paper" / "glass1.jpg")
    assert content_fingerprint(one) != content_fingerprint(two)


# --- the published split ----------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "beside"])
def test_the_published_split_is_read_from_the_lists(tiny: Entry, tmp_path: Path, inside: bool) -> None:
    root = write(tmp_path / "set" / "tiny-set", lists=LISTS)
    if inside:
        for split in LISTS:
            (root.parent / f"{split}.txt").rename(root / f"{split}.txt")
    split = published_split(tiny, root)
    assert split is not None and set(split) == set(IMAGES)
    assert split["glass/glass1.jpg"] == "train"
    assert split["paper/paper2.jpg"] == "val"
    assert split["glass/glass3.jpg"] == "test"


def test_without_lists_there_is_no_published_split(tiny: Entry, tmp_path: Path) -> None:
    root = write(tmp_path / "set" / "tiny-set")
    assert published_split(tiny, root) is None
    assert published_split(replace(tiny, lists=()), root) is None


@pytest.mark.parametrize(
    ("split", "text", "said"),
    [
        (
            "val",
            "glass2.jpg 1\nglass1.jpg 1\npaper2.jpg 2",
            r"val\.txt, line 2: glass/glass1\.jpg is listed before",
        ),
        (
            "val",
            "glass2.jpg 2\npaper2.jpg 2",
            r"val\.txt, line 1: label 2 is 'paper', but .* glass/glass2\.jpg",
        ),
        ("test", "glass3.jpg 1\npaper9.jpg 2", r"test\.txt, line 2: there is no image paper/paper9\.jpg"),
        ("test", "glass3.jpg 3", r"test\.txt, line 1: 'glass3\.jpg 3' is not .* label of 1 to 2"),
        ("test", "glass3.jpg", r"test\.txt, line 1: 'glass3\.jpg' is not '<file> <label>'"),
        ("test", "../glass/glass3.jpg 1", r"test\.txt, line 1: there is no image"),
        ("test", "glass3.jpg 1", r"paper3\.jpg is in none of train\.txt, val\.txt, test\.txt \(1 like it\)"),
        ("test", None, r"test\.txt cannot be read"),
    ],
)
def test_lists_that_do_not_fit_the_images_are_refused_by_file_and_line(
    tiny: Entry, tmp_path: Path, split: str, text: str | None, said: str
) -> None:
    lists = {name: lines for name, lines in (LISTS | {split: text}).items() if lines is not None}
    root = write(tmp_path / "set" / "tiny-set", lists=lists)
    with pytest.raises(BadInput, match=said + ".*remove the lists"):
        published_split(tiny, root)


# --- where a dataset comes from ---------------------------------------------------------------------


def test_a_folder_given_is_taken_before_everything(
    online: dict[str, Entry], server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = write(tmp_path / "given")
    monkeypatch.setenv("TUNE_TL_DATA", str(tmp_path / "nowhere"))
    assert resolve("garbage", given, catalog=online) == Resolved(
        given, "local", online["garbage"], "given by --data"
    )
    assert resolve("mine", given, catalog=online).entry is None
    assert server.asked == []


def test_a_folder_unpacked_as_published_is_entered(online: dict[str, Entry], tmp_path: Path) -> None:
    root = write(tmp_path / "given" / "tiny-set")
    assert resolve("garbage", tmp_path / "given", catalog=online).root == root
    assert resolve("garbage", root, catalog=online).root == root


def test_a_root_is_absolute(
    online: dict[str, Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "given")
    monkeypatch.chdir(tmp_path)
    assert resolve("garbage", Path("given"), catalog=online).root == tmp_path / "given"


def test_the_users_shelf_is_looked_at_before_the_network(
    online: dict[str, Entry], server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "shelf" / "garbage")
    monkeypatch.setenv("TUNE_TL_DATA", str(tmp_path / "shelf"))
    found = resolve("garbage", catalog=online)
    assert (found.source, found.root) == ("local", tmp_path / "shelf" / "garbage")
    assert server.asked == []


def test_a_shelf_without_the_dataset_is_passed_over(
    online: dict[str, Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNE_TL_DATA", str(tmp_path))
    assert resolve("garbage", catalog=online).source == "download"


@pytest.mark.parametrize(
    ("name", "data", "shelf", "said"),
    [
        ("garbage", "nowhere", None, r"^--data 'nowhere' is no folder; give it"),
        (
            "garbage",
            None,
            "nowhere",
            r"^\$TUNE_TL_DATA is 'nowhere', which is no folder; correct or unset it$",
        ),
        ("garbge", None, None, r"'garbge', did you mean 'garbage'\?; known: .*garbage.*; .* --data DIR$"),
    ],
)
def test_what_does_not_exist_is_named(
    name: str, data: str | None, shelf: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shelf:
        monkeypatch.setenv("TUNE_TL_DATA", shelf)
    with pytest.raises(BadInput, match=said):
        resolve(name, Path(data) if data else None)


def test_a_download_is_verified_and_then_cached(online: dict[str, Entry], server: FileServer) -> None:
    first = resolve("garbage", catalog=online)
    assert (first.source, first.why) == ("download", "downloaded from 127.0.0.1 and verified")
    assert content_fingerprint(first.root) == archive_of(online["garbage"]).fingerprint
    assert published_split(online["garbage"], first.root) is not None
    assert not list((cache_dir() / "downloads").iterdir())
    server.asked.clear()
    assert resolve("garbage", catalog=online) == first
    assert server.asked == []


def test_a_cached_dataset_that_lost_an_image_is_downloaded_again(online: dict[str, Entry]) -> None:
    root = resolve("garbage", catalog=online).root
    (root / "glass" / "glass1.jpg").unlink()
    again = resolve("garbage", catalog=online).root
    assert content_fingerprint(again) == archive_of(online["garbage"]).fingerprint


def test_a_folder_that_was_never_verified_is_no_cache(online: dict[str, Entry], server: FileServer) -> None:
    write(cache_dir() / "datasets" / "garbage" / "tiny-set")
    assert resolve("garbage", catalog=online).source == "download"
    assert server.asked


def test_a_cut_download_is_resumed_by_the_next_search(
    online: dict[str, Entry], server: FileServer, with_sample: None
) -> None:
    server.files["tiny.zip"] = body = zipped({**IMAGES, "more.bin": bytes(40_000)})
    server.cuts = [20_000] + [0] * 10
    cut = resolve("garbage", catalog=online)
    assert (cut.source, cut.why) == ("sample", "127.0.0.1 cut the connection")
    server.cuts, server.asked = [], []
    assert resolve("garbage", catalog=online).source == "download"
    resumed_at = int((server.asked[0][1] or "").removeprefix("bytes=").removesuffix("-"))
    assert 0 < resumed_at < len(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (zipped(IMAGES | {"glass/glass1.jpg": b"another"}), "not Tiny Trash as published: 6 images with"),
        (zipped(dict(list(IMAGES.items())[:4])), "not Tiny Trash as published: 4 images with"),
        (b"<html>please log in</html>", "damaged"),
        (zipped({"../../evil.jpg": b"x"}), "unsafe name"),
    ],
    ids=["other-image", "fewer-images", "no-zip", "hostile"],
)
def test_anything_but_the_published_content_is_rejected_and_removed(
    online: dict[str, Entry], server: FileServer, with_sample: None, body: bytes, said: str
) -> None:
    server.files["tiny.zip"] = body
    rejected = resolve("garbage", catalog=online)
    assert rejected.source == "sample"
    assert said in rejected.why and "\n" not in rejected.why
    assert not list((cache_dir() / "downloads").iterdir())
    assert not (cache_dir() / "datasets" / "garbage").exists()


@pytest.mark.parametrize("fault", ["missing", "other"])
def test_without_the_lists_the_images_are_used_and_it_is_said(
    online: dict[str, Entry], server: FileServer, fault: str
) -> None:
    if fault == "missing":
        del server.files["val.txt"]
    else:
        server.files["val.txt"] = b"glass1.jpg 1\n"
    found = resolve("garbage", catalog=online)
    assert found.source == "download"
    assert "split by tune_tl, for the published lists could not be had: 127.0.0.1 " in found.why
    assert resolve("garbage", catalog=online) == found  # the reason is remembered, the split stays the same


def test_a_second_address_is_tried(online: dict[str, Entry]) -> None:
    entry = online["garbage"]
    mirrored = at(entry, f"{CLOSED}/tiny.zip", *archive_of(entry).urls)
    assert resolve("garbage", catalog={"garbage": mirrored}).source == "download"


def test_searches_started_together_download_once(online: dict[str, Entry], server: FileServer) -> None:
    found: list[Resolved] = []
    threads = [
        threading.Thread(target=lambda: found.append(resolve("garbage", catalog=online))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.source for one in found] == ["download"] * 3
    assert [name for name, _ in server.asked].count("tiny.zip") == 1


def test_without_a_network_the_sample_is_drawn_and_announced_loudly(tiny: Entry, with_sample: None) -> None:
    found = resolve("garbage", catalog={"garbage": tiny})
    assert found.source == "sample"
    assert found.why == "127.0.0.1 could not be reached (connection refused)"
    assert found.root.parent == cache_dir() / "samples"
    assert {path.name for path in found.root.iterdir()} == set(GARBAGE.labels)
    assert published_split(tiny, found.root) is None
    banner = sample_banner(found)
    for part in (
        "DRAWN IMAGES, NOT PHOTOGRAPHS",
        found.why,
        archive_of(tiny).urls[0],
        "--data DIR",
        "$TUNE_TL_DATA/garbage",
    ):
        assert part in banner


def test_real_images_have_no_banner(online: dict[str, Entry], tmp_path: Path) -> None:
    assert sample_banner(resolve("garbage", write(tmp_path / "given"), catalog=online)) == ""
    assert sample_banner(resolve("garbage", catalog=online)) == ""


def test_a_cache_that_cannot_be_written_is_bad_input(
    online: dict[str, Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(BadInput, match=r"cannot be used .*set XDG_CACHE_HOME"):
        resolve("garbage", catalog=online)


def test_the_cache_follows_the_xdg_standard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "tune_tl"
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_dir() == Path.home() / ".cache" / "tune_tl"


def test_a_killed_download_leaves_nothing_in_the_way(online: dict[str, Entry]) -> None:
    work = cache_dir() / "downloads" / "garbage"
    write(work / "unpacked")
    write(work / ".unpacked-12345678")
    write(work / "unpacked-whole")
    shutil.copyfile(__file__, work / "garbage.zip.part")
    assert resolve("garbage", catalog=online).source == "download"
    assert not list((cache_dir() / "downloads").iterdir())


# --- what only a person can get ---------------------------------------------------------------------


@pytest.mark.parametrize("entry", [e for e in CATALOG.values() if not e.archive], ids=lambda e: e.name)
@pytest.mark.parametrize("shelf", [True, False], ids=["shelf", "no-shelf"])
def test_what_only_a_person_can_get_is_told_with_the_place_to_put_it(
    entry: Entry, shelf: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shelf:
        monkeypatch.setenv("TUNE_TL_DATA", str(tmp_path))
    with pytest.raises(BadInput) as error:
        resolve(entry.name)
    first, *rows = str(error.value).splitlines()
    assert repr(entry.name) in first and "not on this machine" in first
    told = "\n".join(rows)
    place = tmp_path / entry.name if shelf else f"$TUNE_TL_DATA/{entry.name}"
    for part in (entry.title, entry.homepage, f"at {place},", "--data DIR", entry.layout):
        assert part in told
    assert all(step in told for _, step in entry.steps)
    assert not cache_dir().exists()


@pytest.mark.parametrize("name", ["intel", "simpsons"])
def test_kaggles_page_and_command_are_those_of_the_same_dataset(name: str) -> None:
    with pytest.raises(BadInput) as error:
        resolve(name)
    page = re.search(r"https://www\.kaggle\.com/datasets/([\w-]+/[\w-]+)$", str(error.value), re.MULTILINE)
    assert page and f"kaggle datasets download -d {page[1]} " in str(error.value)


def test_a_search_ends_with_what_to_do_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "scenes.yaml").write_text("dataset: intel\nbackbone: mobilenet_v2\n")
    command = [sys.executable, "-m", "tune_tl.search", "scenes.yaml"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: the images of 'intel' are not on this machine")
    assert "put it   at $TUNE_TL_DATA/intel," in ended.stderr and "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["scenes.yaml"]


def kaggle_intel() -> dict[str, int]:
    classes = ("buildings", "forest", "glacier", "mountain", "sea", "street")
    made = {f"seg_{split}/seg_{split}/{label}": 4 for split in ("train", "test") for label in classes}
    return made | {"seg_pred/seg_pred": 9}


def kaggle_simpsons() -> dict[str, int]:
    made = {f"simpsons_dataset/{label}": 4 for label in ("bart_simpson", "gil", "lionel_hutz")}
    return made | {f"simpsons_dataset/{place}": n for place, n in made.items()}  # Kaggle's holds itself


@pytest.mark.parametrize("wrapped", [".", "archive"])
@pytest.mark.parametrize(
    ("name", "made", "flat", "sizes"),
    [
        ("intel", kaggle_intel(), (), (18, 6, 24)),
        ("simpsons", kaggle_simpsons(), ("bart_simpson", "gil"), (9, 3, 6)),
    ],
    ids=["intel", "simpsons"],
)
def test_kaggles_archives_are_read_as_they_unpack(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    made: dict[str, int],
    flat: tuple[str, ...],
    sizes: tuple[int, int, int],
    wrapped: str,
) -> None:
    archive = tmp_path / name / wrapped
    files = {
        f"{place}/{n}.jpg": f"{place} {n}".encode() for place, count in made.items() for n in range(count)
    }
    files |= {
        f"kaggle_simpson_testset/kaggle_simpson_testset/{label}_{n}.jpg": f"{label} {n}".encode()
        for label in flat
        for n in range(3)
    }
    write(archive, files | {"annotation.txt": b"litter"})
    monkeypatch.setenv("TUNE_TL_DATA", str(tmp_path))
    found = resolve(name)
    dataset = scan(found.root, name=name, source=found.source)
    assert tuple(dataset.count(split) for split in SPLITS) == sizes
    assert len(dataset.classes) == (6 if name == "intel" else 3)
