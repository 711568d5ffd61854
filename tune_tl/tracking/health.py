"""Whether a store can be written to, found out within seconds and without MLflow; what its errors mean.

To import MLflow takes two seconds of a core, and MLflow asks a dead database for two minutes. A SQLite
file is only read here: one that is damaged is evidence, and may be repaired, as long as nobody writes to it.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import sqlite3
import threading
from pathlib import Path

from tune_tl.tracking.store import redacted, sqlite_file

PATIENCE = 4.0  # seconds, whatever hangs: the server, the name service, the disk
_REQUEST_SECONDS = 3.0
_LOCK_SECONDS = 2.0
_CHECKED_BYTES = 2**28  # SQLite reads 700 MB/s at best; of a larger file only the schema and the size
_WAL = b"\2\2"  # the file format's versions, in a header's bytes 18 and 19
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class Away(Exception):
    """The store cannot be had now. It may come back."""


class Unfit(Exception):
    """The store must not be written to: what is in it is damaged, or something else's."""


class Stuck(Exception):
    """The store answers, and takes nothing until a person has mended it. The message says how."""


def check(uri: str) -> None:
    """Return if the store can be written to, as far as a glance tells. Raises Away and Unfit."""
    found: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: found.put(_found(uri)), name="mlflow-check", daemon=True).start()
    try:
        trouble = found.get(timeout=PATIENCE)
    except queue.Empty:
        raise Away(f"no answer within {PATIENCE:g} s") from None
    if trouble:
        raise trouble


def unfit(error: BaseException | None) -> str | None:
    """Why the store must not be written to any more, if that is what `error` says."""
    while error:
        if isinstance(error, Unfit):
            return str(error)
        if isinstance(error, sqlite3.Error) and _code(error) in _DAMAGE:
            return f"it is damaged ({error})"
        error = error.__cause__ or error.__context__
    return None


def stuck(error: BaseException | None, uri: str) -> str | None:
    """What is so, and the command that mends it, if a person has to mend the store first."""
    while error:
        if isinstance(error, Stuck):
            return str(error)
        if found := re.search(r"out-of-date database schema \(found version (\w+)", str(error)):
            from mlflow.store import db_migrations

            known = Path(db_migrations.__file__).parent / "versions"
            if not any(known.glob(f"{found[1]}_*.py")):
                way = "`pip install --upgrade mlflow`, or give another --tracking-uri"
                return f"its tables are a newer MLflow's; {way}"
            command = f"mlflow db upgrade {shlex.quote(redacted(uri))}"
            return f"its tables are an older MLflow's; copy it, then `{command}` makes them this one's"
        error = error.__cause__ or error.__context__
    return None


def is_refusal(error: Exception) -> bool:
    """Whether asking MLflow again cannot help."""
    code = getattr(error, "error_code", None)  # of an MlflowException
    if code is not None:
        return code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
    return isinstance(error, TypeError | ValueError | LookupError | AssertionError | FileNotFoundError)


def reason(error: BaseException) -> str:
    """The first words of the error that started the others: MLflow wraps a refused connection in five."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    text = str(error).strip() or type(error).__name__
    return redacted(text.splitlines()[0])[:160]


def _found(uri: str) -> Exception | None:
    try:
        database = sqlite_file(uri)
        if database:
            _look_at_file(database)
        elif uri.startswith(("http://", "https://")):
            _ask_server(uri)
    except Exception as error:
        return error
    return None


def _ask_server(uri: str) -> None:
    """Any answer will do."""
    import requests

    try:
        with requests.get(
            f"{uri.rstrip('/')}/health", timeout=_REQUEST_SECONDS, stream=True, allow_redirects=False
        ):
            pass
    except requests.exceptions.SSLError:
        pass  # it answers, and whom to trust MLflow has settings for
    except requests.RequestException as error:
        raise Away(reason(error)) from None


def _look_at_file(file: Path) -> None:
    try:
        there = file.exists()
        place = next(folder for folder in file.parents if folder.exists())
        if not place.is_dir() or not os.access(place, os.W_OK):
            raise Away(f"{place} is no folder that can be written")
        if not there:
            return  # MLflow will make it
        if not file.is_file() or not os.access(file, os.R_OK | os.W_OK):
            raise Away("it is no file that can be written")
        with file.open("rb") as opened:
            header = opened.read(20)
    except OSError as error:
        raise Away(error.strerror or str(error)) from None
    # To read a file in WAL mode, SQLite would lay out two more beside it.
    still = header[18:] == _WAL and not file.with_name(f"{file.name}-wal").exists()
    database = sqlite3.connect(
        f"{file.as_uri()}?mode=ro{'&immutable=1' if still else ''}", uri=True, timeout=_LOCK_SECONDS
    )
    database.text_factory = lambda text: text.decode(errors="replace")
    try:
        _read(database, checked=file.stat().st_size <= _CHECKED_BYTES)
    except (sqlite3.Error, OSError) as error:
        if _code(error) in _DAMAGE:
            raise Unfit(f"it is damaged ({error})") from None
        # SQLITE_READONLY: a kill left a transaction to roll back, which is MLflow's to do.
        if _code(error) != sqlite3.SQLITE_READONLY:
            raise Away(str(error)) from None
    finally:
        database.close()


def _read(database: sqlite3.Connection, *, checked: bool) -> None:
    found = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    tables = [name for name in found if not name.startswith(("alembic_", "sqlite_"))]
    if tables and "experiments" not in tables:  # the first that MLflow makes
        raise Unfit(f"its tables are not MLflow's ({', '.join(tables)[:60]})")
    if checked:
        (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise Unfit(f"it is damaged ({verdict.splitlines()[-1]})")


def _code(error: Exception) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
