"""Pages and files of the web, asked for politely: named, one by one, with pauses, as robots.txt allows."""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from tune_tl import __version__
from tune_tl.data.sources.download import CONNECT_S, host_of
from tune_tl.terminal.progress import megabytes

if TYPE_CHECKING:
    import requests
    from protego import Protego

AGENT = "tune_tl"  # what a robots.txt calls us
# In the form that search engines' own crawlers have: some sites answer nobody who does not say Mozilla.
USER_AGENT = f"Mozilla/5.0 (compatible; {AGENT}/{__version__}; python -m tune_tl.collect)"
MAX_BYTES = 20_000_000  # of one page or image
SILENCE_S = 10.0  # the longest
LONGEST_S = 60.0  # for one page or image, however steadily it drips
LONGEST_PAUSE_S = 60.0  # that a robots.txt may ask for
HOPS = 5  # redirects in a row
CHUNK = 1 << 16
# Whose last 32 bits are an IPv4 address: compatible, mapped (RFC 4291, 2.5.5), translated (RFC 6052).
EMBEDDING = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "64:ff9b::/96")))

SLOW = "too slow"
LARGE = f"larger than {megabytes(MAX_BYTES)}"


class Refused(Exception):
    """A URL gives nothing. The message is the reason, in the same words for equal causes, without the URL."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status  # that the server answered with, if it did


@dataclass(frozen=True)
class Answer:
    url: str  # where it was in the end, redirects followed
    kind: str  # as the server calls it, such as text/html
    content: bytes


class Web:
    """What one visitor gets to see of the web; not for several threads.

    Between two requests to one host there are `wait` seconds, or more where its robots.txt asks for more.
    A site that answers 429 is not asked again. Nothing leads to this machine or its network but to the
    hosts in `named`, and to those no redirect from elsewhere.
    """

    def __init__(self, wait: float, *, named: Collection[str] = ()) -> None:
        import requests

        self.session = requests.Session()
        self.session.headers.update(
            {"User-Agent": USER_AGENT, "Accept": "text/html,image/jpeg,image/png,image/webp,*/*;q=0.1"}
        )
        self._wait, self._named = wait, frozenset(named)
        self._ended: dict[str, float] = {}  # host -> when the last request to it was over
        self._rules: dict[str, Protego | Refused] = {}  # by scheme, host and port
        self._closed: dict[str, Refused] = {}  # sites that answered 429

    def get(self, url: str, *, robots: bool = True) -> Answer:
        """What is at `url`; with `robots`, only if the robots.txt of its site allows that. Raises Refused."""
        return self._travel(url, self._wait_until_allowed if robots else self._pause)

    def _travel(self, url: str, before: Callable[[str], None]) -> Answer:
        sender = url
        for _ in range(HOPS + 1):
            self._require_open(url, sender)
            before(url)
            try:
                answer = self._ask(url)
            finally:
                self._ended[host_of(url)] = time.monotonic()
            if isinstance(answer, Answer):
                return answer
            sender, url = url, answer
        raise Refused("redirects without end")

    def _ask(self, url: str) -> Answer | str:
        """One request: what is there, or where the server sends us instead."""
        import requests
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        try:
            waits = (CONNECT_S, SILENCE_S)
            with self.session.get(url, stream=True, allow_redirects=False, timeout=waits) as response:
                if response.is_redirect:
                    return urljoin(url, response.headers["Location"])
                status = response.status_code
                if status != HTTPStatus.OK:
                    phrase = f" ({HTTPStatus(status).phrase})" if status in set(HTTPStatus) else ""
                    no = Refused(f"answered {status}{phrase}", status)
                    if status == HTTPStatus.TOO_MANY_REQUESTS:
                        self._closed[_site(url)] = no
                    raise no
                kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                return Answer(url, kind, _body(response))
        except (requests.Timeout, ReadTimeoutError):
            raise Refused(SLOW) from None
        except HTTPError:  # of what comes behind the headers; of what is before, requests makes its own
            raise Refused("cut off on its way") from None
        except (requests.RequestException, ValueError):
            raise Refused("could not be reached") from None

    def _require_open(self, url: str, sender: str) -> None:
        """Raises Refused unless `url` is of the web, and leads to where `sender` may send us."""
        try:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError
        except ValueError:
            raise Refused("no address of the web") from None
        if is_local(parts.hostname) and not (parts.hostname in self._named and is_local(host_of(sender))):
            raise Refused("leads into this machine or its network")
        if no := self._closed.get(_site(url)):
            raise Refused(str(no), no.status)

    def _wait_until_allowed(self, url: str) -> None:
        """Return when the site's robots.txt lets `url` be asked for. Raises Refused."""
        site = _site(url)
        if site not in self._rules:
            self._rules[site] = self._read_rules(site)
        rules = self._rules[site]
        if isinstance(rules, Refused):
            raise Refused(str(rules))
        if not rules.can_fetch(url, AGENT):
            raise Refused("forbidden by robots.txt")
        asked = rules.crawl_delay(AGENT) or 0.0
        if asked > LONGEST_PAUSE_S:
            raise Refused(f"robots.txt asks for pauses above {LONGEST_PAUSE_S:g} s")
        self._pause(url, asked)

    def _read_rules(self, site: str) -> Protego | Refused:
        """As RFC 9309 has it: no robots.txt allows everything, one that cannot be had forbids everything."""
        from protego import Protego  # the standard library's parser takes `*` and `$` for letters

        try:
            answer = self._travel(f"{site}/robots.txt", self._pause)
        except Refused as no:
            if not 400 <= no.status < 500 or no.status == HTTPStatus.TOO_MANY_REQUESTS:
                return no
            return Protego.parse("")
        return Protego.parse(answer.content.decode("utf-8-sig", errors="replace"))

    def _pause(self, url: str, asked: float = 0.0) -> None:
        host = host_of(url)
        if host in self._ended:
            since = time.monotonic() - self._ended[host]
            time.sleep(max(0.0, max(self._wait, asked) - since))


def is_local(host: str) -> bool:
    """Whether `host` is this machine or one of its network, as far as its name says."""
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):  # a proxy may know it; else the request says what is wrong
        return False
    return not all(_is_global(address) for address in found)


def _is_global(text: str) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):  # a gateway would send it to the one within
        last = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        within = last if any(address in network for network in EMBEDDING) else address.sixtofour
        return (within or address).is_global
    return address.is_global


def _site(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _body(response: requests.Response) -> bytes:
    length = response.headers.get("Content-Length", "")
    if re.fullmatch("[0-9]{1,18}", length) and int(length) > MAX_BYTES:
        raise Refused(LARGE)
    began, content = time.monotonic(), bytearray()
    # Not iter_content: it waits until a chunk is full, for hours if the server likes.
    while chunk := response.raw.read1(CHUNK, decode_content=True):
        content += chunk
        if len(content) > MAX_BYTES:
            raise Refused(LARGE)
        if time.monotonic() - began > LONGEST_S:
            raise Refused(SLOW)
    return bytes(content)
