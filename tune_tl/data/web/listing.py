"""Where images may be found: what a search engine shows, what is on a page, what a file lists.

What search engines are asked and how their pages are read is icrawler's (https://icrawler.readthedocs.io):
its feeders and parsers. Its crawler is not used: it calls itself a browser, knows no pause and no robots.txt,
takes files of any size, sees no relative address on a page, and waits without end on one with no image.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from queue import Queue
from typing import NamedTuple
from urllib.parse import quote_plus, urldefrag, urljoin, urlsplit

from tune_tl.data.formats import IMAGE_SUFFIXES
from tune_tl.data.web.visitor import Answer, Refused, Web
from tune_tl.errors import BadInput

ENGINES = ("bing",)
MOST_FOUND = 1000  # what engines show of their results


class Candidate(NamedTuple):
    url: str
    on: str  # the engine, page or file that names it
    content: bytes | None = None  # where it is known already


def on_engine(engine: str, query: str, web: Web) -> Iterator[Candidate]:
    """What `engine` shows for `query`, a page asked for when it is needed. Raises Refused."""
    from icrawler.builtin.bing import BingFeeder, BingParser
    from icrawler.utils import Signal

    feeder = BingFeeder(1, Signal(), web.session)
    feeder.out_queue = Queue()  # its own is short, and is waited for
    feeder.feed(keyword=quote_plus(query), offset=0, max_num=MOST_FOUND)
    parser, seen = BingParser(1, Signal(), web.session), set[str]()
    while not feeder.out_queue.empty():
        # Its robots.txt is for who indexes it, and a search is not that. The pauses hold here too.
        page = web.get(feeder.out_queue.get(), robots=False)
        try:
            # It looks for .jpg, and where an address ends otherwise it runs on into what is behind it.
            links = [str(task["file_url"]).partition('"')[0] for task in parser.parse(page)]
        except (TypeError, AttributeError, KeyError) as error:
            raise Refused(f"its page is not as icrawler knows it ({error!r})") from None
        if seen.issuperset(links):
            return  # behind the last page comes the last page
        seen.update(links)
        yield from (Candidate(link, engine) for link in links)


def on_page(source: str, _query: str, web: Web) -> Iterator[Candidate]:
    """The images that a page shows or links to, or the image that is at its place. Raises Refused."""
    page, on = web.get(source), without_login(source)
    if page.kind.startswith("image/"):
        yield Candidate(source, on, page.content)
    else:
        yield from (Candidate(link, on) for link in _links(page))


def _links(page: Answer) -> Iterator[str]:
    """Where a page's images are; of one that is shown small and links to itself in large, the large one."""
    from bs4 import BeautifulSoup

    with warnings.catch_warnings(action="ignore"):  # of pages that look like something else
        soup = BeautifulSoup(page.content, "html.parser")

    def address(link: object) -> str:
        try:
            # Browsers take these out of addresses, so they are found within them.
            return urldefrag(urljoin(base, re.sub(r"[\t\r\n]", "", str(link or "")).strip())).url
        except ValueError:
            return ""

    base = page.url
    base = address(soup.base.get("href")) if soup.base else base
    for tag in soup.find_all(["a", "img"]):
        around = tag if tag.name == "a" else tag.find_parent("a")
        large = address(around.get("href")) if around else ""
        if PurePosixPath(urlsplit(large).path).suffix.lower() in IMAGE_SUFFIXES:
            link = large
        elif tag.name == "img":
            link = address(tag.get("data-src") or tag.get("src"))
        else:
            continue
        if is_web(link):
            yield link


def in_file(source: str, _query: str, _web: Web) -> Iterator[Candidate]:
    return (Candidate(url, Path(source).name) for url in listed(Path(source)))


def listed(path: Path) -> list[str]:
    """The URLs that a text file lists, one a line, `#` before a remark. Raises BadInput."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").split("\n")]
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no text"
        raise BadInput(
            f"--from {str(path)!r} cannot be read ({why}); give a page's http(s) address, or a text file "
            "with an image's address on each line"
        ) from None
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#") and not is_web(line):
            raise BadInput(f"{path}, line {number}: {line[:80]!r} is no http(s) address")
    return [line for line in lines if line and not line.startswith("#")]


def is_web(text: str) -> bool:
    return re.match("https?://", text, re.IGNORECASE) is not None


def without_login(url: str) -> str:
    """`url` less the name and password in it, which no record is to keep."""
    return re.sub(r"^([a-z]+://)[^/?#]*@", r"\1", url, flags=re.IGNORECASE)
