"""Files from the network: a download resumes where it was cut and says in one line why it failed.

Unavailable              what was wanted could not be had; the message is that one line
├── Unreachable          the network or the server failed
├── WrongContent         something came, but not what was published
├── NoSpace              the disk has no room for it
└── BadArchive           an archive is damaged or hostile (see `archive`)
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tune_tl.storage.files import lock_of, sha256_of
from tune_tl.terminal.progress import Announcement, megabytes

if TYPE_CHECKING:
    import requests

CONNECT_S = 5.0  # a host that is not there is found out this fast, all its addresses together
TRIES = 4  # in a row without a new byte
PAUSE_S = 0.25  # before the second try; doubles
CHUNK = 1 << 14  # what a cut can lose: requests drops a chunk that is not full


class Unavailable(Exception):
    pass


class Unreachable(Unavailable):
    pass


class WrongContent(Unavailable):
    pass


class NoSpace(Unavailable):
    pass


class BadArchive(Unavailable):
    pass


class _Cut(Exception):
    """A try that failed but may be repeated; the message completes 'HOST …'."""


def fetch(url: str, target: Path, *, sha256: str | None = None, timeout: float = 10) -> Path:
    """Download `url` (http or https) to `target` and return `target`; one already there is kept.

    A cut download stays as `target.part` and is resumed, in this call or a later one, if the server
    named its version by a strong ETag. `timeout` is the longest silence in seconds. Of several
    processes one downloads and the others wait. Raises Unreachable, WrongContent if the file has
    not the SHA-256 `sha256`, NoSpace, and ValueError for another kind of URL.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError("only http and https are downloaded")
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_of(target)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        if target.exists() and sha256 in (None, sha256_of(target)):
            return target
        part = target.with_name(target.name + ".part")
        with Announcement(target.name, host_of(url)) as announcement:
            _download(url, part, timeout, announcement)
        if sha256 is not None and (got := sha256_of(part)) != sha256:
            _forget(part)
            raise WrongContent(f"{host_of(url)} sent another {target.name}: SHA-256 {got}, not {sha256}")
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(target)
        _forget(part)
    return target


def _download(url: str, part: Path, timeout: float, announcement: Announcement) -> None:
    """Fill `part` completely, with as many tries as bring something new."""
    _require_reachable(url)
    farthest = failures = 0
    while True:
        try:
            return _transfer(url, part, timeout, announcement)
        except _Cut as cut:
            reached = part.stat().st_size if part.exists() else 0
            failures = 0 if reached > farthest else failures + 1
            farthest = max(farthest, reached)
            if failures == TRIES:
                raise Unreachable(f"{host_of(url)} {cut}") from None
            time.sleep(PAUSE_S * 2**failures)


def _transfer(url: str, part: Path, timeout: float, announcement: Announcement) -> None:
    """One try: what `part` lacks, or all of it where it cannot be resumed. Raises _Cut."""
    import requests  # no dependency of its own: ray and mlflow both need it

    tag = part.with_name(part.name + ".etag")
    have = part.stat().st_size if part.exists() and tag.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # byte positions and lengths are the file's own
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text()}
    try:
        waits = (min(CONNECT_S, timeout), timeout)
        with requests.get(url, headers=headers, stream=True, timeout=waits) as response:
            have = _offset(response, have, url, part)
            length = response.headers.get("Content-Length", "")
            packed = "Content-Encoding" in response.headers  # against our wish; the length is then another
            total = have + int(length) if length.isdigit() and not packed else None
            require_room(part.parent, (total or have) - have, part.stem)
            announcement.start(total, have)
            with part.open("ab" if have else "wb") as file:
                if not have:
                    _remember_version(response, tag)
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    announcement.advance(len(chunk))
    except requests.RequestException as error:  # its text may carry the URL and with it a secret
        raise _explain(error, timeout, host_of(url)) from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise NoSpace(f"the disk of {part.parent} filled up while {part.stem} came") from None
    if total is not None and part.stat().st_size != total:
        raise _Cut("closed the connection early")


def _offset(response: requests.Response, have: int, url: str, part: Path) -> int:
    """Where in the file the response's body begins. Raises _Cut, having dropped a useless part."""
    status = response.status_code
    if status == HTTPStatus.OK:
        return 0
    if status == HTTPStatus.PARTIAL_CONTENT and have:
        if response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            return have  # of the same version: that is what If-Range asked for
        _forget(part)
        raise _Cut("resumed at the wrong place")
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
        _forget(part)
        raise _Cut("could not resume")
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "unknown"
    if status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise _Cut(f"answered {status} ({phrase})")
    raise Unreachable(f"{host_of(url)} answered {status} ({phrase})")


def _remember_version(response: requests.Response, tag: Path) -> None:
    etag = response.headers.get("ETag", "")
    # A weak tag promises the same meaning, not the same bytes.
    if etag.startswith('"') and not response.headers.get("Content-Encoding"):
        tag.write_text(etag)
    else:
        tag.unlink(missing_ok=True)


def _explain(error: requests.RequestException, timeout: float, host: str) -> Exception:
    import requests

    match error:
        case requests.exceptions.SSLError():
            return Unreachable(f"{host} could not be reached (its certificate could not be verified)")
        case requests.exceptions.ProxyError():
            return Unreachable(f"{host} could not be reached (the proxy failed)")
        case requests.Timeout():
            return _Cut(f"fell silent for {timeout:g} s")
        case requests.ConnectionError() | requests.exceptions.ChunkedEncodingError():
            return _Cut("cut the connection")
        case _:
            return Unreachable(f"{host} could not be reached ({type(error).__name__})")


def _require_reachable(url: str) -> None:
    """Raises Unreachable, with the exact reason, within CONNECT_S.

    requests would spend its timeout on each address of the host in turn, and name resolution has
    none: behind a firewall that drops packets that is a minute of silence.
    """
    import requests

    if requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)):
        return  # then only the proxy can be reached
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    silence = f"no answer in {CONNECT_S:g} s"
    outcome: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=CONNECT_S).close()
            outcome.append("")
        except (socket.gaierror, UnicodeError):
            outcome.append("name resolution failed")
        except ConnectionRefusedError:
            outcome.append("connection refused")
        except OSError as error:
            outcome.append((error.strerror or silence).lower())

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    if reason := outcome[0] if outcome else silence:
        raise Unreachable(f"{address[0]} could not be reached ({reason})")


def require_room(folder: Path, size: int, what: str) -> None:
    """Raises NoSpace unless `size` more bytes, and a little air, fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if size * 1.05 > free:
        raise NoSpace(f"{what} needs {megabytes(size)}, but the disk of {folder} has {megabytes(free)} left")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".etag").unlink(missing_ok=True)


def host_of(url: str) -> str:
    """All of a URL that is ever shown: the rest may carry credentials."""
    return urlsplit(url).hostname or "?"
