"""What is installed is what is in the checkout: the wheel, unpacked and run from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
    ]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_the_package_and_its_spaces_and_nothing_else(installed: Path) -> None:
    assert {p.name.partition("-")[0] for p in installed.iterdir()} == {"tune_tl"}
    for source in (ROOT / "search_spaces").glob("*.yaml"):
        assert (installed / "tune_tl" / "search_spaces" / source.name).read_text() == source.read_text()
    held = {p.relative_to(ROOT) for p in (ROOT / "tune_tl").rglob("*") if p.suffix in (".py", ".j2")}
    assert held == {p.relative_to(installed) for p in installed.rglob("*") if p.suffix in (".py", ".j2")}


def test_named_spaces_are_found_from_any_folder(installed: Path, tmp_path: Path) -> None:
    code = "import tune_tl, tune_tl.spaces.reading as s; print(tune_tl.__file__, s.load('garbage')[0].path)"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    run = [sys.executable, "-c", code]
    shown = subprocess.run(run, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    for path in shown.stdout.split():
        assert Path(path).is_relative_to(installed)
