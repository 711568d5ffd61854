"""Which store a search writes to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tune_tl.errors import BadInput
from tune_tl.tracking.store import how_to_open, redacted, same_store, sqlite_file, tracking_uri


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my data 100%"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


def test_the_default_is_mlflows_own_database_in_the_working_directory(here: Path) -> None:
    assert tracking_uri() == f"sqlite:///{here}/mlflow.db"


def test_the_argument_goes_before_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert tracking_uri() == "http://there:5000"
    assert tracking_uri("sqlite:///a.db") == f"sqlite:///{here}/a.db"


@pytest.mark.parametrize(
    "uri", ["sqlite:////var/m.db", "https://h/p", "postgresql+psycopg2://u:p@h/db", "databricks"]
)
def test_an_absolute_uri_is_left_alone(uri: str) -> None:
    assert tracking_uri(uri) == uri


def test_the_query_of_a_relative_database_is_kept(here: Path) -> None:
    uri = tracking_uri("sqlite:///runs/m.db?timeout=60")
    assert uri == f"sqlite:///{here}/runs/m.db?timeout=60"
    assert sqlite_file(uri) == here / "runs/m.db"


@pytest.mark.parametrize(
    ("given", "way_out"),
    [
        ("mlruns", "mlruns/mlflow.db"),
        ("./runs/m.db", "runs/m.db"),
        ("file:///var/mlruns", "/var/mlruns/mlflow.db"),
        ("file:mlruns", "mlruns/mlflow.db"),
    ],
)
def test_a_plain_path_is_refused_with_the_database_to_use(given: str, way_out: str) -> None:
    with pytest.raises(BadInput) as refusal:
        tracking_uri(given)
    assert repr(given) in str(refusal.value)
    assert str(refusal.value).endswith(way_out)
    assert "use sqlite:////" in str(refusal.value)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_a_database_in_memory_would_forget_the_search(uri: str) -> None:
    with pytest.raises(BadInput, match=r"use sqlite:///mlflow\.db"):
        tracking_uri(uri)


def test_an_unknown_scheme_is_refused_without_showing_a_password() -> None:
    with pytest.raises(BadInput, match="unknown scheme 'htp'") as refusal:
        tracking_uri("htp://me:secret@host")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("error at http://me:secret@host:1/x", "error at http://***@host:1/x"),
        ("postgresql://me:se/cr:et@host/db", "postgresql://***@host/db"),
        ("http://token@host", "http://***@host"),
        (
            "postgresql://host/db?user=me&password=secret&sslmode=require",
            "postgresql://host/db?user=me&password=***&sslmode=require",
        ),
        ("sqlite:////a/b.db and x@y", "sqlite:////a/b.db and x@y"),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_a_search_goes_on_in_the_store_that_it_had(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    had = "sqlite:////elsewhere/m.db"
    assert same_store(had, None) == had
    assert same_store(None, None) == tracking_uri()
    assert same_store(had, "sqlite:///a.db") == f"sqlite:///{here}/a.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert same_store(had, None) == "http://there:5000"
    assert same_store(had, "sqlite:///a.db") == f"sqlite:///{here}/a.db"


def test_a_store_whose_password_was_not_kept_has_to_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    had = redacted("http://me:secret@there:5000")
    with pytest.raises(BadInput, match="give --tracking-uri"):
        same_store(had, None)
    assert same_store(had, "http://me:secret@there:5000") == "http://me:secret@there:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:other@there:5000")
    assert same_store(had, None) == "http://me:other@there:5000"


def test_how_to_open_names_the_shortest_command_that_works(here: Path) -> None:
    assert how_to_open(tracking_uri()) == "mlflow ui"
    assert how_to_open("http://h:5000") == "http://h:5000"
    assert how_to_open("sqlite:////v w/m.db") == "mlflow ui --backend-store-uri 'sqlite:////v w/m.db'"


def test_runs_of_the_retired_file_store_would_hide_the_database(here: Path) -> None:
    old = here / "mlruns/0/meta.yaml"
    old.parent.mkdir(parents=True)
    old.touch()
    assert how_to_open(tracking_uri()) == f"mlflow ui --backend-store-uri 'sqlite:///{here}/mlflow.db'"


def test_choosing_a_store_and_making_a_tracker_imports_no_mlflow() -> None:
    code = (
        "import sys; from tune_tl.tracking.store import tracking_uri;"
        "from tune_tl.tracking.tracker import Tracker;"
        "from tune_tl.tracking.tensorboard import EventFiles; Tracker(tracking_uri());"
        "print(sorted({'mlflow', 'tensorboard', 'torch', 'ray'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
