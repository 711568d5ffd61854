"""A web site on this machine, of pages that are good, bad or slow, which remembers what it was asked."""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

import numpy as np
from PIL import Image

from support.local_server import LocalServer


@dataclass
class Page:
    body: bytes = b""
    kind: str = "image/jpeg"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)  # Content-Length among them, if not the true one
    silence: float = 0.0  # seconds before the body
    drip: float = 0.0  # seconds after each of its bytes


@dataclass
class Asked:
    path: str
    agent: str
    began: float
    ended: float = 0.0  # when all but the body was sent


@dataclass
class Website(LocalServer):
    """Serves `pages` by their paths on a loopback port while entered; what is not among them is 404."""

    pages: dict[str, Page] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)  # in order

    def url(self, path: str, login: str = "") -> str:
        return f"http://{login}127.0.0.1:{self.port}{path}"

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(ConnectionError):  # who asked has gone away
            self._serve(request)

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        asked = Asked(request.path, request.headers["User-Agent"], time.monotonic())
        self.asked.append(asked)
        page = self.pages.get(request.path, Page(b"gone", "text/plain", 404))
        request.send_response(page.status)
        headers = {"Content-Type": page.kind, "Content-Length": str(len(page.body))} | page.headers
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        time.sleep(page.silence)
        asked.ended = time.monotonic()
        at_once = 1 if page.drip else len(page.body) or 1
        for start in range(0, len(page.body), at_once):
            request.wfile.write(page.body[start:][:at_once])
            time.sleep(page.drip)


def picture(seed: int, kind: str = "JPEG", **options: object) -> bytes:
    """An image of its own for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def html(*tags: str) -> Page:
    return Page("".join(tags).encode(), "text/html")


def shown(*paths: str) -> Page:
    return html(*(f"<img src='{path}'>" for path in paths))
