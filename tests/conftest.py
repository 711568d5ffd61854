"""What holds for every test: whose settings and caches it sees, and what its markers need."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("support")  # what is asserted in there is told in full, as in a test


@pytest.fixture(scope="session", autouse=True)
def own_caches_and_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests see neither the developer's settings nor a cache that an earlier version filled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        for name in ("TUNE_TL_DATA", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, saying what is missing."""
    for item in items:
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))
        if item.get_closest_marker("browser") and not shutil.which("chromium"):
            item.add_marker(pytest.mark.skip(reason="needs chromium on the path"))


def _has_gpu() -> bool:
    import torch  # three seconds, paid only where a test asks

    return torch.cuda.is_available()
