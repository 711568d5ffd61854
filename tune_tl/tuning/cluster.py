"""The Ray that trials run on: started here, or joined, while the driver makes other things ready."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tune_tl.errors import BadInput
from tune_tl.storage.files import nearest
from tune_tl.tuning import orphans, privates

PATIENCE_S = 20.0  # what Ray has to end in, before it is left to end with this process
SECOND_TRY_S = 180.0  # what it has to start in, where it did not within its own 30 s
SOCKET_PATH = 107  # bytes, at most, of a socket's path
SESSION_PATH = len("/ray/session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store")


class Cluster:
    """Ray on this machine alone, behind a token, or the cluster at `address`; gone when the context ends.

    Starting takes seconds that are mostly waiting, so it happens in a thread. The thread stays until the
    end: Linux ends Ray's processes with the thread that started them.
    """

    def __init__(self, address: str | None) -> None:
        self.address = address
        self._mark = orphans.new_mark()  # of what is started here
        self._thread: threading.Thread | None = None
        self._up, self._over = threading.Event(), threading.Event()
        self._resources: dict[str, float] = {}
        self._error: BaseException | None = None
        self._patient = False
        # What Ray says while the search has no folder yet.
        self._early_output: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the cluster
        self._handler: logging.Handler = logging.NullHandler()
        self._stderr = os.dup(2)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        # Nothing was started to join another cluster, and who gave up on one that does not answer leaves.
        if self._thread and (self.address is None or self._up.is_set()):
            # An interrupt in the middle of an import can leave it locked, and the thread waiting for it.
            self._thread.join(PATIENCE_S)
        if self._thread and self._thread.is_alive() and not self._up.is_set():
            os.dup2(self._stderr, 2)  # it holds that, and what is wrong is yet to be said
        os.close(self._stderr)
        logging.getLogger("ray").removeHandler(self._handler)
        self._handler.close()
        self._early_output.close()

    def start(self) -> None:
        """Begin to start or join it, if that has not begun; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._live, name="ray", daemon=True)
            self._thread.start()

    def end_left(self, folder: Path) -> None:
        """End what an earlier run of the search in `folder` left running. Raises as `orphans.end_left`."""
        orphans.end_left(folder, self._mark)

    def resources(self, log: Path, say: Callable[[str], None] = lambda line: None) -> dict[str, float]:
        """Wait until it runs; what it has, by Ray's names. From here on Ray's messages go to the file `log`.

        A start that fails on this machine is tried once more, with more patience; `say` is told. Raises
        BadInput if there is no cluster at the address, or Ray does not start.
        """
        self.start()
        self._up.wait()
        if isinstance(self._error, NotStarted) and self._thread:
            say(f"{self._error}; trying once more, for up to {SECOND_TRY_S:.0f} s")
            self._thread.join()  # and with it what it started
            self._thread, self._error, self._patient = None, None, True
            self._up.clear()
            self.start()
            self._up.wait()
        self._early_output.seek(0)
        with log.open("ab") as file:
            file.write(self._early_output.read())
        self._early_output.seek(0)
        self._early_output.truncate()
        if self._error:
            raise self._error
        self._handler.close()
        self._handler = _Log(log)
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
        logging.getLogger("ray").handlers = [self._handler]  # ray.init took the others away
        # Warns after every search that Tune's own result files, which nobody wants, are not there.
        logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)
        return self._resources

    def _live(self) -> None:
        try:
            with orphans.marked(self._mark):
                wait_s = SECOND_TRY_S if self._patient else None
                self._resources = _init(self.address, self._early_output, wait_s)
        except BaseException as error:
            self._error = error
            self._up.set()
            return
        self._up.set()
        self._over.wait()
        import ray

        ray.shutdown()


class _Log(logging.FileHandler):
    """Ray's messages in a file."""

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk is told by the search, in one line; logging would print a traceback a message."""


class NotStarted(BadInput):
    """Ray did not start on this machine, for a reason that may pass."""


def require_places() -> None:
    """Raises BadInput if Ray could not put its files where it would, and says what to set."""
    try:
        Path.home()
    except RuntimeError:
        raise BadInput("there is no home folder, which Ray looks for; set HOME to a folder") from None
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "TMPDIR")
    place = _place()
    if len(os.fsencode(place)) + SESSION_PATH > SOCKET_PATH:
        raise BadInput(
            f"{variable} {place!r} is too long for the paths of Ray's sockets, by "
            f"{len(os.fsencode(place)) + SESSION_PATH - SOCKET_PATH} characters; set RAY_TMPDIR to a shorter "
            "folder, such as RAY_TMPDIR=/tmp"
        )
    above = nearest(Path(place))
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise BadInput(f"{variable} {place!r} cannot be written; set RAY_TMPDIR to a folder that can be")


def _place() -> str:
    """Where Ray has its sessions."""
    return os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or tempfile.gettempdir()


def _give_key() -> None:
    """A key of this process's own where there is none and no home to keep one in, for Ray would stop."""
    kept = _kept_key()
    if not kept.exists() and not os.access(nearest(kept), os.W_OK):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _kept_key() -> Path:
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()


def _init(address: str | None, output: BinaryIO, wait_s: float | None) -> dict[str, float]:
    logger = logging.getLogger("ray")
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    import ray
    from ray.exceptions import AuthenticationError

    privates.log_messages_of_nodes(logger)
    privates.print_no_warnings()
    local: dict[str, Any] = {
        "include_dashboard": False,
        "object_store_memory": 256 << 20,  # pixels and weights travel through files
    }
    try:
        with contextlib.ExitStack() as around:
            around.enter_context(_errors_to(output))
            around.enter_context(_sigterm_kept())
            if not address:
                _give_key()
            if wait_s:
                around.enter_context(privates.patient_start(wait_s))
            ray.init(
                address=address or "local",
                log_to_driver=False,
                configure_logging=False,
                **({} if address else local),
            )
    except (ConnectionError, AuthenticationError) as error:
        raise BadInput(
            f"no Ray cluster at {address or 'this machine'} ({' '.join(str(error).split())[:200]}); it must "
            "run, and its key be in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from None
    except Exception as error:  # Ray raises bare ones
        if address:
            raise
        ray.shutdown()
        raise _not_started(error, wait_s) from None
    _hide_token()
    return dict(ray.cluster_resources())


def _not_started(error: Exception, wait_s: float | None) -> BadInput:
    reason = " ".join(str(error).split()).split(". ")[0][:200]
    if not wait_s:
        return NotStarted(f"Ray did not start ({reason})")
    logs = Path(_place(), "ray/session_latest/logs")
    return BadInput(
        f"Ray did not start, in two tries ({reason}); {logs} may say why. Try again when this machine is "
        "less busy, or with RAY_TMPDIR on another disk"
    )


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Ray's C++ takes SIGTERM over, and the process would die on the spot: Python's handler is put back.

    Through C, since `signal.signal` is for the main thread alone.
    """
    get, put = ctypes.pythonapi.PyOS_getsig, ctypes.pythonapi.PyOS_setsig
    get.argtypes, get.restype = [ctypes.c_int], ctypes.c_void_p
    put.argtypes, put.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
    handler = get(signal.SIGTERM)
    try:
        yield
    finally:
        put(signal.SIGTERM, handler)


@contextlib.contextmanager
def _errors_to(file: BinaryIO) -> Iterator[None]:
    """Standard error into a file: Ray's C++ warns there about what it raises as an exception too."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _hide_token() -> None:
    """Ray writes the key to its clusters where every user of the machine could read it."""
    with contextlib.suppress(OSError):
        _kept_key().chmod(0o600)
