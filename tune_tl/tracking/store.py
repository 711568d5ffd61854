"""Which MLflow store a search writes to, and how MLflow is kept quiet. Imports no MLflow."""

from __future__ import annotations

import os
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

from tune_tl.errors import BadInput

DEFAULT_FILE = "mlflow.db"  # MLflow's own default, in the working directory
LONGEST = 504  # bytes of a file's name, absolute, of which SQLite keeps eight of its 512 for itself
REQUEST_SECONDS = 5  # the longest that one request may hang, and so about the longest that closing waits

# MLflow asks a dead server eight times over four minutes; the tracker repeats what failed by itself, so
# one short try at a time is enough. The rest keeps MLflow off the network and off the terminal, where
# the live display is.
_QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}

_SCHEMES = {"sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks", "databricks-uc", "uc"}


def quiet_mlflow(request_seconds: int = REQUEST_SECONDS) -> None:
    """Set MLflow's environment variables where the user has not; call it before MLflow is imported."""
    for name, value in {**_QUIET, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(request_seconds)}.items():
        os.environ.setdefault(name, value)


def tracking_uri(argument: str | None = None) -> str:
    """The absolute URI of the store: `argument`, else MLFLOW_TRACKING_URI, else ./mlflow.db.

    Raises BadInput for a URI that MLflow could not keep a search in.
    """
    given = (argument or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DEFAULT_FILE}").strip()
    scheme = _scheme(given)
    if "***" in given:
        raise BadInput(f"tracking URI {given!r}: its password is left out; give it, too")
    if scheme in ("", "file"):
        raise BadInput(
            f"tracking URI {given!r}: MLflow keeps no runs in plain files any more; use {_as_sqlite(given)}"
        )
    if scheme == "sqlite":
        return _absolute(given)
    if scheme not in _SCHEMES | {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}:
        raise BadInput(
            f"tracking URI {redacted(given)!r}: unknown scheme {scheme!r}; use http://HOST:PORT,"
            f" sqlite:///FILE or one of {', '.join(sorted(_SCHEMES))}"
        )
    return given


def same_store(recorded: str | None, asked: str | None) -> str:
    """The absolute URI to go on with for a search whose record names the store `recorded`.

    What is asked for goes first, as an option or in the environment. Raises BadInput as `tracking_uri`,
    and if the store's password is needed, which no record has.
    """
    if asked or os.environ.get("MLFLOW_TRACKING_URI") or not recorded:
        return tracking_uri(asked)
    if "***" in recorded:
        raise BadInput(f"the search is tracked at {recorded}: its password is not kept; give --tracking-uri")
    return tracking_uri(recorded)


def how_to_open(uri: str) -> str:
    """What shows the store to a person: a command for a database, the address of a server."""
    if _scheme(uri) in ("http", "https"):
        return redacted(uri)
    # A folder with runs of MLflow's retired file store makes a bare `mlflow ui` look at those instead.
    retired = any(file.parent.name.isdigit() for file in Path("mlruns").glob("*/meta.yaml"))
    if sqlite_file(uri) == Path.cwd() / DEFAULT_FILE and not retired:
        return "mlflow ui"
    return f"mlflow ui --backend-store-uri {shlex.quote(redacted(uri))}"


def redacted(text: str) -> str:
    """`text` without the user names and passwords of the URIs in it."""
    text = re.sub(r"(://)([^/@\s:]*:[^@\s]*|[^/@\s]+)@", r"\1***@", text)
    secret = r"[^=&?\s]*(?:pass|pwd|token|secret|key|odbc_connect)[^=&?\s]*"
    return re.sub(rf"([?&]{secret}=)[^&\s]+", r"\1***", text, flags=re.IGNORECASE)


def shown(uri: str) -> str:
    """What a person is told of where a store is."""
    return redacted(str(sqlite_file(uri) or uri))


def sqlite_file(uri: str) -> Path | None:
    """The database file behind an absolute SQLite URI; None for every other store."""
    if _scheme(uri) != "sqlite":
        return None
    return Path(uri.partition(":///")[2].partition("?")[0])


def _scheme(uri: str) -> str:
    if uri in ("databricks", "databricks-uc", "uc"):
        return uri
    # Two letters at least, since C:\runs is a path; the driver in postgresql+psycopg is no part of it.
    match = re.match(r"([A-Za-z][A-Za-z0-9.-]+)(\+\w+)?:", uri)
    return match[1].lower() if match else ""


def _absolute(uri: str) -> str:
    head, separator, rest = uri.partition(":///")
    path, mark, query = rest.partition("?")
    if not separator or path in ("", ":memory:"):
        raise BadInput(
            f"tracking URI {uri!r} names no file: it would forget the search; use sqlite:///{DEFAULT_FILE}"
        )
    file = Path(path).absolute()
    problem = ""
    if not Path(path).is_absolute() and (code := re.search(r"\?|%[0-9A-Fa-f]{2}", str(Path.cwd()))):
        problem = f"holds {code[0]!r}, which means something else in a URI"
    if len(os.fsencode(file)) > LONGEST:
        problem = f"is longer than the {LONGEST} bytes that SQLite takes"
    if problem:
        raise BadInput(f"tracking store {str(file)!r}: its name {problem}; give --tracking-uri another")
    return f"{head}:///{file}{mark}{query}"


def _as_sqlite(path_or_file_uri: str) -> str:
    path = Path(re.sub(r"^file:(//)?", "", path_or_file_uri)).absolute()
    return f"sqlite:///{path if path.suffix in ('.db', '.sqlite', '.sqlite3') else path / DEFAULT_FILE}"
