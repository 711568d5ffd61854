"""What holds for every test: whose settings and caches it sees, what its markers need, who runs it."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent
FAULTS = "faults"  # whose files share caches that are warm
# What takes longest begins first: with several processes none is left alone with it at the end.
LONGEST = (
    FAULTS, "tracking/test_outages.py", "test_search.py", "tuning/test_crashes.py", "test_benchmarks.py",
    "training/test_checkpoint.py", "training/test_model.py", "training/test_activations.py",
    "tuning/test_tuner.py", "test_sync.py", "test_paths.py", "test_address.py", "tracking/test_server.py",
)  # fmt: skip

pytest.register_assert_rewrite("support")  # what is asserted in there is told in full, as in a test


@pytest.fixture(scope="session", autouse=True)
def own_caches_and_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests see neither the developer's settings nor a cache that an earlier version filled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name in ("TUNE_TL_DATA", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        yield


def pytest_configure(config: pytest.Config) -> None:
    """A shell that starts the tests in the background has them, and all they start, ignore Ctrl+C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """With `-n` the tests of a file stay together, in their order: they share what takes long to make."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(ROOT.parent / super()._split_scope(nodeid))

    config.option.loadscopereorder = False
    return ByFile(config, log)


def together(file: Path) -> str:
    """What a test file is run with."""
    inside = file.relative_to(ROOT)
    return FAULTS if inside.parts[0] == FAULTS else inside.as_posix()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, saying what is missing; in one of several processes, sort."""
    if hasattr(config, "workerinput"):
        rank = {name: number for number, name in enumerate(LONGEST)}
        items.sort(key=lambda item: rank.get(together(item.path), len(rank)))
    for item in items:
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
        if item.get_closest_marker("browser") and not shutil.which("chromium"):
            item.add_marker(pytest.mark.skip(reason="needs chromium on the path"))


def _has_gpu() -> bool:
    import torch  # three seconds, paid only where a test asks

    return torch.cuda.is_available()
