"""Files from strangers hold data, never code: nothing that is read is run, whoever wrote it."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from support.images import three_colours

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "tune_tl").rglob("*.py"))

# What runs code that it finds in a file.
NEVER_IMPORTED = {"pickle", "cloudpickle", "_pickle", "dill", "joblib", "marshal", "shelve"}
NEVER_CALLED = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.load_all"}
NEVER_CALLED |= {"yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"}
# What does so unless it is told not to.
ONLY_WITH = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
ONLY_WITH |= {"numpy.load": ("allow_pickle", False)}


def breaches(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (a.name for a in names if NEVER_IMPORTED & set(a.name.split(".")))
            case ast.ImportFrom(module=module, names=names):
                words = {*(module or "").split("."), *(alias.name for alias in names)}
                yield from NEVER_IMPORTED & words
            case ast.Attribute(attr=name) if name in NEVER_IMPORTED:
                yield ast.unparse(node)
            case ast.Call(func=func, keywords=keywords):
                said = {k.arg: k.value.value for k in keywords if isinstance(k.value, ast.Constant)}
                called = ast.unparse(func)
                if called in NEVER_CALLED or called.endswith(".read_pickle"):
                    yield called
                if called in ONLY_WITH and ONLY_WITH[called] not in said.items():
                    yield called
                if any(k.arg == "shell" for k in keywords) and said.get("shell") is not False:
                    yield called


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path: Path) -> None:
    assert list(breaches(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "import os, marshal", "from ray import cloudpickle",
        "import ray\nray.cloudpickle.loads(b'')", "torch.load(path)", "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=maybe)", "np.load(path, allow_pickle=True)", "numpy.load(path)",
        "yaml.load(text, Loader=yaml.Loader)", "yaml.unsafe_load(text)", "pandas.read_pickle(path)",
        "eval(text)", "def f():\n    exec(text)", "os.system(text)", "subprocess.run(text, shell=True)",
    ],
)  # fmt: skip
def test_what_would_run_it_is_found(source: str) -> None:
    assert len(set(breaches(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, map_location='cpu', weights_only=True)", "np.load(path, allow_pickle=False)",
        "yaml.safe_load(text)", "json.loads(text)", "load(model, weights)", "model.eval()",
        "subprocess.run([text], shell=False)",
    ],
)  # fmt: skip
def test_what_would_not_is_not(source: str) -> None:
    assert list(breaches(source)) == []


class Trap:
    """Pickled, it is a call: whoever unpickles it creates the folder `sprung`."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.sprung),)


WEIGHTS = "hub/checkpoints/tf_efficientnet_lite0-0aa007d2.pth"


def search(here: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """The command on a few images, with the weights in the folder `torch`."""
    three_colours(here / "images")
    (here / "mine.yaml").write_text("dataset: ./images\nbackbone: efficientnet_lite0\nimage_size: 32\n")
    home = {name: str(here / "home") for name in ("HOME", "XDG_CACHE_HOME")}
    return subprocess.run(
        [sys.executable, "-m", "tune_tl.search", "mine.yaml", *argv],
        cwd=here, env=os.environ | home | {"TORCH_HOME": str(here / "torch"), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["bare pickle", "inside a state dict"])
def test_weights_that_are_a_program_end_a_search_with_one_line_and_are_not_run(
    tmp_path: Path, form: str
) -> None:
    file, sprung = tmp_path / "torch" / WEIGHTS, tmp_path / "sprung"
    file.parent.mkdir(parents=True)
    if form == "bare pickle":
        file.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        torch.save({"conv_stem.weight": torch.ones(2), "classifier.bias": Trap(sprung)}, file)
    done = search(tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert str(file) in done.stderr
    assert "remove the file" in done.stderr
    assert not sprung.exists()
    assert not (tmp_path / "runs").exists()


def test_a_space_that_is_a_program_is_not_run(tmp_path: Path) -> None:
    three_colours(tmp_path / "images")
    sprung = tmp_path / "sprung"
    (tmp_path / "trap.yaml").write_text(
        f"backbone: !!python/object/apply:os.mkdir ['{sprung}']\ndataset: ./images\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "tune_tl.search", "trap.yaml"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "trap.yaml: cannot be read as YAML" in done.stderr
    assert not sprung.exists()


def test_an_image_that_is_a_program_is_not_run(tmp_path: Path) -> None:
    """PostScript under an image's name: Pillow would have Ghostscript run it."""
    sprung = tmp_path / "sprung"
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\nmkdir {sprung}\n")
    (folder / "gs").chmod(0o755)
    path = tmp_path / "x.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    code = (
        "import sys; from pathlib import Path; from tune_tl.data.decoding import decode\n"
        "try:\n    decode(Path(sys.argv[1]), [8])\nexcept ValueError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "no image in a known format\n"
    assert not sprung.exists()


AS_NOBODY = """
import os, sys
from pathlib import Path
from tune_tl.errors import BadInput
from tune_tl.preflight import weights
from tune_tl.spaces import reading

space, _ = reading.load(sys.argv[1])
if not os.geteuid():  # whom nothing is forbidden
    os.setuid(65534)
try:
    weights.find_weights(space)
except BadInput as error:
    print(error)
"""


def test_weights_that_may_not_be_read_are_named() -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        here.chmod(0o755)
        (here / "mine.yaml").write_text("backbone: efficientnet_lite0\n")
        file = here / WEIGHTS
        file.parent.mkdir(parents=True)
        file.touch(0)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(here / "mine.yaml")],
            env=os.environ | {"TORCH_HOME": str(here), "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert done.stdout.count("\n") == 1
    assert f"Permission denied: '{file}'" in done.stdout
