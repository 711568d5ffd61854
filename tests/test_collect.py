"""`python -m tune_tl.collect` as a user runs it, against a web site on this machine."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path

import pytest
import requests
from PIL import Image
from requests.adapters import HTTPAdapter

from support.website import Page, Website, html, picture, shown
from tune_tl import collect
from tune_tl.data.folder import scan
from tune_tl.data.web import visitor
from tune_tl.data.web.collecting import COLUMNS, PROVENANCE, Kept, Wanted
from tune_tl.data.web.collecting import collect as collect_images
from tune_tl.data.web.visitor import Refused, Web

ROOT = Path(__file__).parents[1]
HERE = ("127.0.0.1",)


@pytest.fixture
def site() -> Iterator[Website]:
    with Website() as serving:
        yield serving


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "tanks"


def run(site: Website, output: Path, *more: str, source: str = "/", name: str = "tank") -> int:
    options = ["--output", str(output), "--wait", "0", "--from", site.url(source), *more]
    return collect.main([name, *options])


def record(output: Path) -> list[dict[str, str]]:
    with (output / PROVENANCE).open(newline="") as file:
        return list(csv.DictReader(file))


def files(output: Path) -> set[str]:
    """Everything under `output` but the record and the lock."""
    found = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    return found - {PROVENANCE, ".collect.lock"}


def named(content: bytes, suffix: str = ".jpg", name: str = "tank") -> str:
    return f"{name}/{hashlib.sha256(content).hexdigest()[:16]}{suffix}"


def bomb(side: int) -> bytes:
    """The beginning of a PNG that claims to be `side` pixels wide and high."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    size = side.to_bytes(4, "big")
    header = b"IHDR" + size + size + file.getvalue()[24:29]
    return file.getvalue()[:12] + header + zlib.crc32(header).to_bytes(4, "big") + file.getvalue()[33:]


def test_only_whole_images_are_kept_and_what_was_left_out_is_told(
    site: Website, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitor, "SILENCE_S", 1.5)
    monkeypatch.setattr(visitor, "LONGEST_S", 1.5)
    monkeypatch.setattr(visitor, "MAX_BYTES", 50_000)
    good, lower, moved, sly = (picture(seed) for seed in range(4))
    png = picture(4, "PNG")
    site.pages = {
        "/robots.txt": Page(b"User-agent: *\nDisallow: /private/\n", "text/plain"),
        "/good.jpg": Page(good),
        "/pics/lower.jpeg": Page(lower),
        "/a-png.jpg": Page(png),
        "/copy.jpg": Page(good),
        "/half.jpg": Page(picture(5)[:400]),
        "/half.png": Page(picture(5, "PNG")[:400]),
        "/page.jpg": html("<h1>Not found</h1>"),
        "/empty.jpg": Page(b""),
        "/declared.jpg": Page(b"", headers={"Content-Length": str(10**9)}),
        "/endless.jpg": Page(bytes(200_000), headers={"Content-Length": "", "Connection": "close"}),
        "/silent.jpg": Page(picture(6), silence=2.5),
        "/dripping.jpg": Page(picture(7), drip=0.02),
        "/cut.jpg": Page(picture(8), headers={"Content-Length": "40000"}),
        "/moved.jpg": Page(status=302, headers={"Location": "/elsewhere"}),
        "/elsewhere": Page(moved),
        "/circle.jpg": Page(status=301, headers={"Location": "/circle.jpg"}),
        "/sneaky.jpg": Page(status=301, headers={"Location": "/private/a.jpg"}),
        "/away.jpg": Page(status=301, headers={"Location": "file:///etc/passwd"}),
        "/private/a.jpg": Page(picture(9)),
        "/..%2F..%2Fevil.jpg": Page(sly),
        "/bomb.png": Page(bomb(10_000)),
        "/larger-bomb.png": Page(bomb(60_000)),
        "/new.avif": Page(picture(10, "AVIF")),
        "/drawing.eps": Page(picture(11, "EPS")),
    }
    site.pages["/"] = shown(
        *site.pages, "/gone.jpg", "/good.jpg", "/good.jpg#again", "data:image/png;base64,"
    )
    assert run(site, output) == 0

    kept = {named(content): content for content in (good, lower, moved, sly)} | {named(png, ".png"): png}
    assert files(output) == set(kept)
    assert {file: (output / file).read_bytes() for file in kept} == kept
    assert {path.name for path in output.parent.iterdir()} == {"tanks"}
    assert "/private/a.jpg" not in site.paths()
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[1] == f"  5 of 200 images in {output}/tank, 5 of them new"
    assert set(out.splitlines()[2:-2]) == {
        "  left out 2: a copy of one that came before",
        "  left out 2: a damaged image",
        "  left out 4: no image",
        "  left out 2: larger than 20.0 MB",
        "  left out 2: too slow",
        "  left out 1: cut off on its way",
        "  left out 1: redirects without end",
        "  left out 2: forbidden by robots.txt",
        "  left out 1: no address of the web",
        "  left out 2: more than 50 million pixels",
        "  left out 1: of a format that is not searched for in folders (AVIF)",
        "  left out 1: answered 404 (Not Found)",
    }
    assert "belong to others" in out
    assert out.splitlines()[-1] == f"next: python -m tune_tl.audit {output}"


def test_the_record_says_of_each_image_where_it_is_from(site: Website, output: Path) -> None:
    first, second = picture(1), picture(2)
    awkward = '/a,"b\u2028.jpg?x=1'
    site.pages = {"/1.jpg": Page(first), "/": shown("/1.jpg", awkward)}
    site.pages["/a,%22b%E2%80%A8.jpg?x=1"] = Page(second)
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert run(site, output) == 0
    rows = record(output)
    assert [row["url"] for row in rows] == [site.url("/1.jpg"), site.url(awkward)]
    for row, content in zip(rows, (first, second), strict=True):
        assert tuple(row) == COLUMNS
        assert (output / row["file"]).read_bytes() == content
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert (row["class"], row["found_on"], row["query"]) == ("tank", site.url("/"), "")
        assert row["bytes"] == str(len(content))
        assert before <= datetime.fromisoformat(row["time"]) <= datetime.now(UTC)


def test_no_spreadsheet_computes_what_the_record_says(site: Website, output: Path) -> None:
    site.pages = {"/": shown("/0.jpg"), "/0.jpg": Page(picture(0))}
    assert run(site, output, name="@SUM(1,1)") == 0
    (row,) = record(output)
    assert (row["class"], row["file"]) == ("'@SUM(1,1)", f"'{named(picture(0), name='@SUM(1,1)')}")
    site.asked.clear()
    assert run(site, output, name="@SUM(1,1)") == 0
    assert "/0.jpg" not in site.paths()


def test_a_page_gives_what_it_shows_and_the_large_one_of_what_it_shows_small(
    site: Website, output: Path
) -> None:
    site.pages = {f"/in/{n}.jpg": Page(picture(n)) for n in range(6)}
    site.pages["/"] = html(
        "<base href='/in/'><a href='0.jpg'><img src='5.jpg'></a><a href='next.html'><img src='1.jpg'></a>",
        "<img data-src='2.jpg' src='5.jpg'><a href='3.JPG?size=l'>three</a><a href='page.html'>a page</a>",
        "<img><a>nothing</a><a href='mailto:me@here'></a><img src='http://[broken/x.jpg'>",
        "<img src=' 4\n.jpg '><a href='javascript:void(0)'></a>",
    )
    site.pages["/in/3.JPG?size=l"] = site.pages.pop("/in/3.jpg")
    assert run(site, output) == 0
    assert files(output) == {named(picture(n)) for n in range(5)}
    assert not {"/in/5.jpg", "/in/page.html", "/in/next.html"} & set(site.paths())


def test_an_address_of_an_image_and_a_list_of_addresses_serve_as_well(
    site: Website, output: Path, tmp_path: Path
) -> None:
    site.pages = {f"/{n}.jpg": Page(picture(n)) for n in range(3)}
    listing = tmp_path / "own.txt"
    listing.write_text(f"# mine\n{site.url('/1.jpg')}\n\n{site.url('/2.jpg')}\n")
    assert run(site, output, str(listing), source="/0.jpg") == 0
    assert files(output) == {named(picture(n)) for n in range(3)}
    assert site.paths().count("/0.jpg") == 1
    assert [row["found_on"] for row in record(output)] == [site.url("/0.jpg"), "own.txt", "own.txt"]


def test_a_host_is_asked_by_name_one_by_one_and_with_pauses(site: Website, output: Path) -> None:
    site.pages = {f"/{n}.jpg": Page(picture(n), silence=0.05) for n in range(3)}
    site.pages["/"] = shown("/0.jpg", "/1.jpg", "/2.jpg")
    assert run(site, output, "--wait", "0.2") == 0
    assert site.paths() == ["/robots.txt", "/", "/0.jpg", "/1.jpg", "/2.jpg"]
    assert all("tune_tl/" in asked.agent for asked in site.asked)
    pauses = [later.began - asked.ended for asked, later in zip(site.asked, site.asked[1:], strict=False)]
    assert min(pauses) > 0.19


def test_a_longer_pause_is_kept_where_robots_txt_asks_for_it(site: Website) -> None:
    site.pages = {
        "/robots.txt": Page(b"User-agent: *\nCrawl-delay: 1\n", "text/plain"),
        "/0.jpg": Page(picture(0)),
    }
    visitor = Web(0, named=HERE)
    for _ in range(2):
        visitor.get(site.url("/0.jpg"))
    robots, first, second = site.asked
    assert first.began - robots.ended > 0.95
    assert second.began - first.ended > 0.95
    site.pages["/robots.txt"].body = b"User-agent: *\nCrawl-delay: 99999999999999999999\n"
    with pytest.raises(Refused, match="asks for pauses above 60 s"):
        Web(0, named=HERE).get(site.url("/0.jpg"))


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        (Page(b"User-agent: tune_tl\nDisallow: /\n", "text/plain"), False),
        (Page(b"User-agent: other\nDisallow: /\n", "text/plain"), True),
        (Page(status=403), True),  # as RFC 9309 has it: as if there were none
        (Page(status=500), False),
        (Page(b"\xff\xfe<html>", "text/html"), True),
        (Page(b"\xef\xbb\xbfUser-agent: *\nDisallow: /\n", "text/plain"), False),
        (Page(b"", "text/plain", headers={"Content-Length": str(10**9)}), False),
    ],
    ids=["for us", "for others", "403", "500", "nonsense", "byte order mark", "huge"],
)
def test_robots_txt_is_kept_to(site: Website, output: Path, rules: Page, allowed: bool) -> None:
    site.pages = {"/robots.txt": rules, "/": shown("/0.jpg"), "/0.jpg": Page(picture(0))}
    assert run(site, output) == (0 if allowed else 1)
    assert site.paths() == ["/robots.txt", "/", "/0.jpg"][: 3 if allowed else 1]


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("Disallow: /*.jpg$", {"/a.jpg?large", "/b.png", "/in/c.jpeg", "/in/d.png"}),
        ("Disallow: /*.jpg", {"/b.png", "/in/c.jpeg", "/in/d.png"}),
        ("Disallow: /*?", {"/a.jpg", "/b.png", "/in/a.jpg", "/in/c.jpeg", "/in/d.png"}),
        ("Disallow: /in/*.j*g", {"/a.jpg", "/a.jpg?large", "/b.png", "/in/d.png"}),
        ("Disallow: /\nAllow: /$\nAllow: /in/\nDisallow: /in/*.jpeg", {"/in/a.jpg", "/in/d.png"}),
        ("Disallow: /in/\nAllow: /in/*.jpg$", {"/a.jpg", "/a.jpg?large", "/b.png", "/in/a.jpg"}),
        ("Allow: /*.png\nDisallow: /in/", {"/a.jpg", "/a.jpg?large", "/b.png", "/in/d.png"}),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_wildcards_of_robots_txt_are_kept_to_and_the_longest_rule_wins(
    site: Website, output: Path, rules: str, kept: set[str]
) -> None:
    """RFC 9309, 2.2.2 and 2.2.3."""
    paths = ["/a.jpg", "/a.jpg?large", "/b.png", "/in/a.jpg", "/in/c.jpeg", "/in/d.png"]
    site.pages = {path: Page(picture(n)) for n, path in enumerate(paths)}
    site.pages |= {
        "/": shown(*paths),
        "/robots.txt": Page(f"User-agent: *\n{rules}\n".encode(), "text/plain"),
    }
    assert run(site, output) == 0
    assert set(site.paths()) - {"/", "/robots.txt"} == kept


@pytest.mark.timeout(30)
def test_wildcards_that_match_in_very_many_ways_hold_nobody_up(site: Website) -> None:
    path = f"/{'a' * 90}b.jpg"
    rules = f"User-agent: *\nDisallow: /{'*a' * 40}$\n"
    site.pages = {path: Page(picture(0)), "/robots.txt": Page(rules.encode(), "text/plain")}
    assert Web(0, named=HERE).get(site.url(path)).content == picture(0)


def test_who_asks_for_fewer_requests_gets_no_more(site: Website, output: Path) -> None:
    site.pages = {"/": shown("/0.jpg", "/busy.jpg", "/1.jpg"), "/0.jpg": Page(picture(0))}
    site.pages |= {"/1.jpg": Page(picture(1)), "/busy.jpg": Page(status=429)}
    assert run(site, output) == 0
    assert site.paths()[-1] == "/busy.jpg"
    assert files(output) == {named(picture(0))}


@pytest.mark.parametrize("robots", [True, False])
def test_who_asked_for_fewer_is_not_asked_again_however_it_is_asked(site: Website, robots: bool) -> None:
    site.pages = {"/robots.txt": Page(status=404), "/busy": Page(status=429), "/0.jpg": Page(picture(0))}
    visitor = Web(0, named=HERE)
    for path in ("/busy", "/0.jpg", "/busy"):
        with pytest.raises(Refused, match="answered 429"):
            visitor.get(site.url(path), robots=robots)
    for path in ("/0.jpg", "/busy"):
        with pytest.raises(Refused, match="answered 429"):
            visitor.get(site.url(path), robots=not robots)
    assert site.paths() == [*(["/robots.txt"] if robots else []), "/busy"]


def test_a_page_of_strangers_leads_not_into_the_own_network(site: Website) -> None:
    site.pages = {"/0.jpg": Page(picture(0))}
    for url in (
        site.url("/0.jpg"),
        f"http://localhost:{site.port}/0.jpg",
        "http://169.254.169.254/",
        "http://[::1]/",
    ):
        with pytest.raises(Refused, match="leads into this machine or its network"):
            Web(0).get(url)
    assert site.asked == []


@pytest.mark.parametrize("by", ["page", "list"])
def test_the_users_own_words_lead_to_the_host_they_name_and_to_no_other(
    site: Website, output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    other = f"http://localhost:{site.port}"
    site.pages = {
        "/": shown("/0.jpg", f"{other}/1.jpg", "/moved.jpg"),
        "/0.jpg": Page(picture(0)),
        "/1.jpg": Page(picture(1)),
        "/moved.jpg": Page(status=302, headers={"Location": f"{other}/1.jpg"}),
    }
    listing = tmp_path / "own.txt"
    listing.write_text(f"{site.url('/0.jpg')}\n{site.url('/moved.jpg')}\n")
    source = site.url("/") if by == "page" else str(listing)
    assert collect.main(["tank", "--output", str(output), "--wait", "0", "--from", source]) == 0
    assert files(output) == {named(picture(0))}
    assert "/1.jpg" not in site.paths()
    refused = 2 if by == "page" else 1
    assert f"  left out {refused}: leads into this machine or its network\n" in capsys.readouterr().out


def test_a_list_of_strangers_opens_nothing_to_their_redirects(site: Website) -> None:
    """Not even what the user named: that is for whom the user sends there."""
    site.pages = {"/0.jpg": Page(picture(0))}
    site.pages["/away.jpg"] = Page(status=302, headers={"Location": site.url("/0.jpg")})
    visitor = Web(0, named={"8.8.8.8", *HERE})
    visitor.session.mount("http://8.8.8.8/", Detour(site))
    with pytest.raises(Refused, match="leads into this machine or its network"):
        visitor.get("http://8.8.8.8/away.jpg")
    assert "/0.jpg" not in site.paths()
    assert visitor.get(site.url("/0.jpg")).content == picture(0)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:8.8.8.8", False),
        ("::127.0.0.1", True),
        ("64:ff9b::10.0.0.1", True),
        ("64:ff9b::8.8.8.8", False),
        ("2002:c0a8:101::1", True),  # 192.168.1.1
        ("2002:808:808::1", False),
        ("fe80::1", True),
        ("2001:4860:4860::8888", False),
    ],
)
def test_an_address_within_an_address_counts(address: str, local: bool) -> None:
    assert visitor.is_local(address) is local


def test_no_more_than_asked_for_and_what_is_there_counts(site: Website, output: Path) -> None:
    site.pages = {f"/{n}.jpg": Page(picture(n)) for n in range(6)}
    site.pages["/"] = shown(*site.pages)
    (output / "tank").mkdir(parents=True)
    (output / "tank/mine.png").write_bytes(picture(9, "PNG"))
    assert run(site, output, "--images", "3") == 0
    assert len(record(output)) == 2
    asked = len(site.asked)
    assert run(site, output, "--images", "3") == 0
    assert len(site.asked) == asked
    assert run(site, output, "--images", "5") == 0
    assert site.paths()[asked:] == ["/robots.txt", "/", "/2.jpg", "/3.jpg"]
    assert len(files(output)) == 5


def test_an_image_that_was_thrown_out_is_not_fetched_again(site: Website, output: Path) -> None:
    site.pages = {"/": shown("/0.jpg", "/1.jpg"), "/0.jpg": Page(picture(0)), "/1.jpg": Page(picture(1))}
    assert run(site, output) == 0
    (output / named(picture(0))).unlink()
    site.pages["/"] = shown("/0.jpg", "/1.jpg", "/copy.jpg", "/2.jpg")
    site.pages |= {"/copy.jpg": Page(picture(0)), "/2.jpg": Page(picture(2))}
    assert run(site, output) == 0
    assert files(output) == {named(picture(1)), named(picture(2))}


@pytest.mark.parametrize("left", [0, 1, 40, -1, -60])
def test_a_record_that_was_cut_in_a_line_is_completed(site: Website, output: Path, left: int) -> None:
    """As a kill leaves it: lines missing, one torn, an image without its line, another half written."""
    site.pages = {"/": shown("/0.jpg", "/1.jpg"), "/0.jpg": Page(picture(0)), "/1.jpg": Page(picture(1))}
    assert run(site, output) == 0
    whole = record(output)
    path = output / PROVENANCE
    path.write_bytes(path.read_bytes()[:left])
    (output / "tank/0123456789abcdef.jpg.part77").write_bytes(b"\xff\xd8")
    assert run(site, output) == 0
    assert [row | {"time": ""} for row in record(output)] == [row | {"time": ""} for row in whole]
    assert files(output) == {named(picture(0)), named(picture(1))}


def test_files_of_the_users_own_stay(site: Website, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.pages = {"/": shown("/0.jpg"), "/0.jpg": Page(picture(0))}
    leaving = output / "tank/0123456789abcdef.jpg.part77"
    own = [output / "tank" / name for name in ("holiday.part1.jpg", "tanks.part2.rar", "thesis.part1")]
    leaving.parent.mkdir(parents=True)
    for path in (leaving, *own):
        path.write_bytes(b"own")
    (output / PROVENANCE).write_text("a,b\n1,2\n")
    assert run(site, output) == 2  # a folder of somebody else: nothing in it changes
    assert leaving.exists()
    (output / PROVENANCE).unlink()
    assert run(site, output) == 0
    assert not leaving.exists()
    assert [path.read_bytes() for path in own] == [b"own"] * 3
    assert capsys.readouterr().err.count("\n") == 1


def start(site: Website, output: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-m", "tune_tl.collect", "tank", "--output", str(output)]
    return subprocess.Popen(
        [*command, "--wait", "0", "--from", site.url("/")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("end", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=lambda x: str(x)
)
def test_what_came_before_an_interruption_is_kept_and_gone_on_with(
    site: Website, output: Path, end: signal.Signals, code: int
) -> None:
    site.pages = {f"/{n}.jpg": Page(picture(n)) for n in range(4)}
    site.pages["/"] = shown(*site.pages)
    site.pages["/2.jpg"].drip = 0.05
    with start(site, output) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (
            (output / PROVENANCE).exists() and len(record(output)) == 2
        ):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(end)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code
    if code > 0:
        assert err == "interrupted; what came is kept, and the same command goes on\n"
    assert "Traceback" not in out + err
    assert files(output) == {named(picture(0)), named(picture(1))}

    site.pages["/2.jpg"].drip = 0
    with start(site, output) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert f"4 of 200 images in {output}/tank, 2 of them new" in out
    assert files(output) == {named(picture(n)) for n in range(4)}
    assert site.paths().count("/0.jpg") == 1


class Detour(HTTPAdapter):
    """Sends what is meant for another host to `site`, over the network as it is."""

    def __init__(self, site: Website) -> None:
        super().__init__()
        self._site = site

    def send(self, request: requests.PreparedRequest, *args: object, **options: object) -> requests.Response:
        request.url = self._site.url(request.path_url)
        return super().send(request, *args, **options)  # type: ignore[arg-type]


def results(*urls: str) -> Page:
    """A page of results in the markup that icrawler reads on Bing."""
    fields = [{"murl": url, "turl": "https://tse.invalid/small.jpg"} for url in urls]
    about = [escape(json.dumps(of_one, separators=(",", ":"))) for of_one in fields]
    return html(*(f"<div class='imgpt'><a class='iusc' m='{text}'></a></div>" for text in about))


def test_bing_is_asked_for_the_words_page_by_page_and_no_further_than_needed(
    site: Website, output: Path
) -> None:
    """What is asked and how it is read is icrawler's own; that Bing answers so today, only Bing can tell."""
    paths = ["/0.jpg", "/1.jpg", "/2.png", "/3.jpg", "/4.webp"]
    site.pages = {path: Page(picture(n)) for n, path in enumerate(paths)}
    query = "/images/async?q=leopard+2+%26+%22tank%22&first="
    urls = [site.url(path) for path in paths]
    site.pages |= {
        f"{query}0": results(*urls[:2]),
        f"{query}20": results(*urls[2:4]),
        f"{query}40": results(urls[4]),
    }
    visitor = Web(0, named=HERE)
    visitor.session.mount("https://www.bing.com/", Detour(site))
    output.mkdir()
    kept, wanted = Kept(output), Wanted("tank", 'leopard 2 & "tank"')
    outcome = collect_images(wanted, kept, visitor, engine="bing", images=3, show=lambda _: None)
    assert (outcome.new, outcome.trouble) == (3, [])
    assert site.paths() == [f"{query}0", "/robots.txt", "/0.jpg", "/1.jpg", f"{query}20", "/2.png"]
    assert {(row["found_on"], row["query"]) for row in record(output)} == {("bing", 'leopard 2 & "tank"')}

    site.pages[f"{query}60"] = site.pages[f"{query}40"]  # behind the last page comes the last page
    outcome = collect_images(wanted, kept, visitor, engine="bing", images=99, show=lambda _: None)
    assert (outcome.images, outcome.trouble) == (5, [])
    assert site.paths()[-1] == f"{query}60"


@pytest.mark.parametrize(
    ("page", "trouble"),
    [
        (html("<h1>Are you human?</h1>"), "bing: names no image"),
        (html("<div class='imgpt'>no link</div>"), "bing: its page is not as icrawler knows it"),
        (Page(status=403), "bing: answered 403 (Forbidden)"),
    ],
)
def test_an_engine_that_gives_nothing_is_told(site: Website, output: Path, page: Page, trouble: str) -> None:
    site.pages["/images/async?q=tank&first=0"] = page
    visitor = Web(0, named=HERE)
    visitor.session.mount("https://www.bing.com/", Detour(site))
    output.mkdir()
    outcome = collect_images(
        Wanted("tank", "tank"), Kept(output), visitor, engine="bing", images=3, show=lambda _: None
    )
    assert (outcome.images, len(outcome.trouble)) == (0, 1)
    assert outcome.trouble[0].startswith(trouble)


def test_a_class_without_an_image_is_no_success(
    site: Website, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.pages = {"/": html("<p>words</p>")}
    assert run(site, output) == 1
    out, _ = capsys.readouterr()
    assert f"  {site.url('/')}: names no image\n" in out
    assert "NAME=OTHER WORDS" in out
    assert run(site, output, source="/gone") == 1
    assert "  127.0.0.1: answered 404 (Not Found)\n" in capsys.readouterr().out
    port = site.port
    site.__exit__(None, None, None)
    assert collect.main(["tank", "--output", str(output), "--from", f"http://127.0.0.1:{port}/"]) == 1
    assert "  127.0.0.1: could not be reached\n" in capsys.readouterr().out
    site.__enter__()


def test_a_password_is_written_nowhere(
    site: Website, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.pages = {"/": shown("/0.jpg"), "/0.jpg": Page(picture(0))}
    secret = site.url("/", "me:s3cret@")
    assert collect.main(["tank", "--output", str(output), "--wait", "0", "--from", secret]) == 0
    assert record(output)[0]["url"] == site.url("/0.jpg")
    assert "s3cret" not in (output / PROVENANCE).read_text() + "".join(capsys.readouterr())


def test_what_was_collected_is_a_dataset(site: Website, output: Path) -> None:
    for start_at, name in ((0, "tank"), (10, "elephant, grey")):
        pages = {f"/{n}.jpg": Page(picture(n)) for n in range(start_at, start_at + 5)}
        site.pages = {**pages, "/": shown(*pages)}
        assert run(site, output, name=name) == 0
    dataset = scan(output, name="collected")
    assert dataset.classes == ("elephant, grey", "tank")
    assert len(dataset.images) == 10


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["../tank"], ["'../tank'", "folder"]),
        ([".."], ["'..'", "folder"]),
        (["a\\b"], ["folder"]),
        ([".hidden"], ["'.hidden'", "dot"]),
        (["__MACOSX"], ["'__MACOSX'"]),
        (["a\nb"], ["'a\\nb'"]),
        ([""], ["''"]),
        (["=tanks"], ["'=tanks'"]),
        (["tank="], ["'tank='", "words"]),
        (["x" * 300], ["too long"]),
        (["tank", "Tank"], ["'tank'", "twice"]),
        (["tank", "--images", "0"], ["--images", "'0'", "1000"]),
        (["tank", "--images", "5000"], ["--images", "'5000'", "1000"]),
        (["tank", "--wait", "-1"], ["--wait", "'-1'"]),
        (["tank", "--wait", "nan"], ["--wait", "'nan'"]),
        (["tank", "--engine", "altavista"], ["--engine", "'altavista'", "'bing'"]),
        (["tank", "elephant", "--from", "http://127.0.0.1/"], ["--from", "one CLASS"]),
        (["tank=words", "--from", "http://127.0.0.1/"], ["'tank=words'", "--from"]),
        (["tank", "--from", "nothing.txt"], ["'nothing.txt'", "No such file", "http"]),
        (["tank", "--from", "list.txt"], ["list.txt, line 2", "'ftp://x/a.jpg'"]),
        (["tank", "--from", "http://[broken/"], ["--from", "'http://[broken/'", "no address"]),
        (["tank", "--output", "list.txt"], ["'list.txt'", "another folder"]),
        (["tank", "--output", "other"], ["provenance.csv", "restore"]),
        (["tank", "--output", "/proc/new"], ["'/proc/new'", "another folder"]),
        ([], ["CLASS", "--help"]),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_what_cannot_be_meant_is_said_in_one_line(
    argv: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("http://127.0.0.1/a.jpg\nftp://x/a.jpg\n")
    Path("other").mkdir()
    Path("other", PROVENANCE).write_text("a,b\n1,2\n")
    assert collect.main(["--output", "new", *argv]) == 2
    out, err = capsys.readouterr()
    assert out in ("", "tank: up to 200 images, from 'tank' on bing\n")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert [word for word in words if word not in err] == []
    assert not Path("new").exists()


def test_two_at_once_do_not_mix(site: Website, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with collect._claimed(output):
        assert run(site, output) == 2
    assert capsys.readouterr().err.startswith("error: another process collects into ")


def test_a_disk_without_room_ends_it_in_one_line(site: Website, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the system's own refusal, in a real write."""
    site.pages = {"/": shown("/0.jpg"), "/0.jpg": Page(picture(0))}
    program = (
        "import resource, signal, sys; from tune_tl.collect import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)); sys.exit(main(sys.argv[1:]))"
    )
    argv = ["tank", "--output", str(tmp_path / "tanks"), "--wait", "0", "--from", site.url("/")]
    done = subprocess.run(
        [sys.executable, "-c", program, *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: ")
    assert files(tmp_path / "tanks") == set()


@pytest.mark.parametrize("package", ["icrawler", "protego"])
def test_without_its_packages_the_way_to_them_is_said_and_nothing_is_made(
    tmp_path: Path, package: str
) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from tune_tl.collect import main; code = main(sys.argv[1:])\n"
        "assert not {'torch', 'rich', 'requests', 'bs4'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "tank", "--output", str(tmp_path / "new")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"error: collecting needs {package}, which is not installed: pip install 'tune-tl[collect]'\n"
    )
    assert not (tmp_path / "new").exists()
