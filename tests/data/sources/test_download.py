from __future__ import annotations

import hashlib
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.file_server import FileServer
from tune_tl.data.sources import download
from tune_tl.data.sources.download import NoSpace, Unreachable, WrongContent, fetch

CONTENT = bytes(range(256)) * 2000
HALF = 15 * download.CHUNK


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.005)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"a.zip": CONTENT}) as serving:
        yield serving


def ranges(server: FileServer) -> list[str | None]:
    return [wanted for _, wanted in server.asked]


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_download_arrives_whole_and_leaves_nothing_beside_it(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = fetch(
        server.url("a.zip"), tmp_path / "new" / "a.zip", sha256=hashlib.sha256(CONTENT).hexdigest()
    )
    assert target.read_bytes() == CONTENT
    assert left_in(target.parent) == {"a.zip"}
    assert capsys.readouterr().err == "downloading a.zip (0.5 MB) from 127.0.0.1\n"


def test_a_file_already_there_is_not_downloaded_again(server: FileServer, tmp_path: Path) -> None:
    for _ in range(2):
        fetch(server.url("a.zip"), tmp_path / "a.zip")
    assert len(server.asked) == 1


def test_a_cut_connection_is_resumed_where_it_was_cut(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [HALF, download.CHUNK + 5]
    assert fetch(server.url("a.zip"), tmp_path / "a.zip").read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={HALF}-", f"bytes={HALF + download.CHUNK}-"]


def test_what_a_failed_download_got_is_used_by_the_next(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [HALF] + [0] * download.TRIES
    with pytest.raises(Unreachable, match=r"^127\.0\.0\.1 cut the connection$"):
        fetch(server.url("a.zip"), tmp_path / "a.zip")
    assert left_in(tmp_path) == {"a.zip.part", "a.zip.part.etag"}
    server.asked.clear()
    assert fetch(server.url("a.zip"), tmp_path / "a.zip").read_bytes() == CONTENT
    assert ranges(server) == [f"bytes={HALF}-"]
    assert left_in(tmp_path) == {"a.zip"}


def test_a_file_that_changed_meanwhile_is_begun_anew(server: FileServer, tmp_path: Path) -> None:
    server.cuts = [HALF] + [0] * download.TRIES
    with pytest.raises(Unreachable):
        fetch(server.url("a.zip"), tmp_path / "a.zip")
    server.etag, server.files["a.zip"] = '"v2"', CONTENT[::-1]
    assert fetch(server.url("a.zip"), tmp_path / "a.zip").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_without_a_strong_version_the_bytes_are_never_joined(
    server: FileServer, tmp_path: Path, etag: str | None
) -> None:
    server.etag, server.cuts = etag, [HALF]
    assert fetch(server.url("a.zip"), tmp_path / "a.zip").read_bytes() == CONTENT
    assert ranges(server) == [None, None]


@pytest.mark.parametrize(
    "fault", [{"ranges": False}, {"shift": 7}, {"statuses": [200, 416]}], ids=["200", "wrong-206", "416"]
)
def test_a_server_that_cannot_resume_is_asked_for_the_whole(
    server: FileServer, tmp_path: Path, fault: dict[str, object]
) -> None:
    for name, value in fault.items():
        setattr(server, name, value)
    server.cuts = [HALF]
    assert fetch(server.url("a.zip"), tmp_path / "a.zip").read_bytes() == CONTENT
    assert ranges(server)[1] == f"bytes={HALF}-"


def test_a_server_that_always_cuts_and_cannot_resume_is_given_up(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [HALF] * 100
    with pytest.raises(Unreachable):
        fetch(server.url("a.zip"), tmp_path / "a.zip")
    assert len(server.asked) == 1 + download.TRIES


def test_a_file_of_unknown_length_arrives(server: FileServer, tmp_path: Path) -> None:
    server.declared = -1
    assert fetch(server.url("a.zip"), tmp_path / "a.zip").read_bytes() == CONTENT


def test_other_bytes_than_known_are_refused_and_removed(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(WrongContent, match=r"sent another a\.zip: SHA-256 .*, not 00"):
        fetch(server.url("a.zip"), tmp_path / "a.zip", sha256="00")
    assert left_in(tmp_path) == set()


def test_a_passing_server_error_is_waited_out(server: FileServer, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert fetch(server.url("a.zip"), tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_missing_file_fails_at_once_and_says_so(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"^127\.0\.0\.1 answered 404 \(Not Found\)$"):
        fetch(server.url("b.zip"), tmp_path / "b.zip")
    assert len(server.asked) == 1


def test_a_file_larger_than_the_disk_is_not_begun(server: FileServer, tmp_path: Path) -> None:
    server.declared = 10**18
    with pytest.raises(NoSpace, match=r"a\.zip needs 1000000000000\.0 MB, but the disk"):
        fetch(server.url("a.zip"), tmp_path / "a.zip")
    assert left_in(tmp_path) == set()


def test_credentials_in_a_url_are_shown_nowhere(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(server.url("a.zip?token=s3cret", "me:s3cret@"), tmp_path / "a.zip")
    server.statuses = [403]
    with pytest.raises(Unreachable) as refused:
        fetch(server.url("b.zip?token=s3cret", "me:s3cret@"), tmp_path / "b.zip")
    with pytest.raises(Unreachable) as closed:
        fetch("http://me:s3cret@127.0.0.1:1/b.zip?token=s3cret", tmp_path / "b.zip")
    assert str(closed.value) == "127.0.0.1 could not be reached (connection refused)"
    assert "s3cret" not in f"{refused.value}{closed.value}{''.join(capsys.readouterr())}"
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_a_host_that_does_not_exist_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"^nowhere\.invalid could not be reached \(n.*\)$"):
        fetch("https://nowhere.invalid/a.zip", tmp_path / "a.zip")


def test_a_host_that_does_not_answer_is_given_up_quickly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "CONNECT_S", 0.3)
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):  # what is beyond the backlog is not answered, as behind a firewall
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        began = time.monotonic()
        with pytest.raises(Unreachable, match=r"could not be reached \((no answer in 0\.3 s|timed out)\)"):
            fetch(f"http://127.0.0.1:{full.getsockname()[1]}/a.zip", tmp_path / "a.zip")
    assert time.monotonic() - began < 3


def test_a_server_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip"
    with silent, pytest.raises(Unreachable, match=r"^127\.0\.0\.1 fell silent for 0\.1 s$"):
        fetch(url, tmp_path / "a.zip", timeout=0.1)


def test_of_two_at_once_one_downloads_and_both_have_it(server: FileServer, tmp_path: Path) -> None:
    url, target = server.url("a.zip"), tmp_path / "a.zip"
    threads = [threading.Thread(target=fetch, args=(url, target)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("url", ["ftp://host/a.zip", "file:///etc/passwd", "a.zip"])
def test_only_web_addresses_are_downloaded(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only http"):
        fetch(url, tmp_path / "a.zip")


def test_a_long_download_shows_a_bar_on_a_terminal(server: FileServer, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tune_tl.data.sources import download; from tune_tl.terminal import progress\n"
        "progress.BAR_AFTER_S = 0; download.fetch(sys.argv[1], Path(sys.argv[2]))"
    )
    reading, terminal = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", program, server.url("a.zip"), str(tmp_path / "a.zip")],
        stderr=terminal,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        check=True,
        timeout=60,
    )
    os.close(terminal)
    shown = os.read(reading, 1 << 16).decode()
    os.close(reading)
    assert shown.startswith("downloading a.zip (0.5 MB) from 127.0.0.1\r\n")
    assert "━" in shown
    assert "kB" in shown


def test_importing_it_is_cheap() -> None:
    slow = "{'torch', 'requests', 'rich', 'numpy'}"
    program = f"import sys, tune_tl.data.sources.catalog; print({slow} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
