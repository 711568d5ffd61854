"""A web server of a few files that misbehaves on request."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from support.local_server import LocalServer


@dataclass
class FileServer(LocalServer):
    """Serves `files` on a loopback port while entered; what is asked of it is set by the attributes."""

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"v1"'
    ranges: bool = True  # honours Range
    shift: int = 0  # resumes this many bytes too late
    declared: int | None = None  # Content-Length instead of the true one; -1 for none at all
    cuts: list[int] = field(default_factory=list)  # body bytes sent to the next requests before hanging up
    statuses: list[int] = field(default_factory=list)  # answered to the next requests instead of the file
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # (path, Range) of every request

    def url(self, name: str, credentials: str = "") -> str:
        return f"http://{credentials}127.0.0.1:{self.port}/{name}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.lstrip("/").partition("?")[0]
        wanted = request.headers.get("Range")
        self.asked.append((name, wanted))
        status = self.statuses.pop(0) if self.statuses else 200 if name in self.files else 404
        if status != 200:
            request.send_error(status)
            return
        body, start = self.files[name], 0
        if wanted and self.ranges and request.headers.get("If-Range") == self.etag:
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])  # type: ignore[index]
        if start and start >= len(body):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        if start:
            start += self.shift
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if self.etag:
            request.send_header("ETag", self.etag)
        if self.declared != -1:
            request.send_header("Content-Length", str(self.declared or len(body) - start))
        request.end_headers()
        request.wfile.write(body[start:][: self.cuts.pop(0) if self.cuts else None])
