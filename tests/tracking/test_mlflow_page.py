"""What a person sees who runs `mlflow ui` in the search's directory and opens the page it printed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tune_tl.experiment import State
from tune_tl.tracking.description import Conclusion
from tune_tl.tracking.store import tracking_uri
from tune_tl.tracking.tracker import Tracker

playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PATIENCE = 60_000  # milliseconds
# The table is drawn in two halves, names to the left; rows know their place by number, not by order.
ROWS = """() => {
  const rows = {};
  for (const row of document.querySelectorAll('[role=row][row-index]')) {
    const seen = rows[Number(row.getAttribute('row-index'))] ??= {name: '', f1: '', state: ''};
    for (const cell of row.querySelectorAll('[role=gridcell]')) {
      const column = cell.getAttribute('col-id'), text = cell.innerText.trim();
      if (column === 'attributes.`Run Name`') seen.name = cell.querySelector('a')?.innerText.trim() ?? '';
      if (column === 'metrics.`best_val_f1`') seen.f1 = text;
      if (column === 'tags.`state`') seen.state = text;
    }
  }
  return Object.keys(rows).sort((a, b) => a - b).map(place => rows[place]);
}"""


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, example: Any) -> tuple[Path, str]:
    """A directory in which one search of five trials was tracked by default, and its leaderboard's page."""
    folder = tmp_path_factory.mktemp("my search")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tracker = Tracker(tracking_uri())
        tracker.start(example.search(folder / "runs" / "s"))
        for index in range(5):
            failed = (State.FAILED, 3, "the loss is NaN") if index == 2 else ()
            example.track(tracker, example.result(index, *failed))
        page = folder / "leaderboard.html"
        page.write_text("<h1>The leaderboard of s</h1>")
        tracker.finish(Conclusion({"val_f1": 0.93, "test_f1": 0.9}, artifacts=[page]))
        tracker.close(60)
    assert tracker.problem is None
    assert tracker.page is not None
    return folder, tracker.page


@pytest.fixture(scope="module")
def address(tracked: tuple[Path, str], mlflow_ui: Callable[..., Any]) -> Iterator[str]:
    if CHROMIUM is None:
        pytest.skip("needs chromium on the path")
    with mlflow_ui(tracked[0]) as address:
        yield address


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 2200, "height": 900})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def test_the_printed_page_is_the_leaderboard(tracked: tuple[Path, str], address: str, page: Any) -> None:
    page.goto(tracked[1].replace("http://127.0.0.1:5000", address))
    page.wait_for_function(f"({ROWS})().filter(row => row.name && row.state).length >= 5")
    page.screenshot(path=tracked[0] / "sorted.png")
    rows = page.evaluate(ROWS)
    assert [row["f1"] for row in rows] == ["0.93", "0.84", "0.71", "0.65", "-"]
    assert [row["state"] for row in rows] == ["completed"] * 4 + ["failed"]
    assert all(row["name"].startswith("mobilenet_v2 unfreeze=") for row in rows)


def test_in_the_plain_table_the_trials_fold_under_their_search(
    tracked: tuple[Path, str], address: str, page: Any
) -> None:
    experiment = tracked[1].partition("?")[0].replace("http://127.0.0.1:5000", address)
    page.goto(f"{experiment}?workflowType=machine_learning")
    page.get_by_role("link", name="s", exact=True).wait_for()
    assert [row["name"] for row in page.evaluate(ROWS)] == ["s"]
    page.locator("[role=gridcell] button").first.click()
    page.wait_for_function(f"({ROWS})().filter(row => row.name).length >= 6")
    page.screenshot(path=tracked[0] / "nested.png")
    parent, *trials = [row["name"] for row in page.evaluate(ROWS)]
    assert parent == "s"
    assert len(trials) == 5
    assert all(name.startswith("mobilenet_v2 unfreeze=") for name in trials)


def test_the_artifacts_of_the_default_store_open(tracked: tuple[Path, str], address: str, page: Any) -> None:
    experiment = tracked[1].partition("?")[0].replace("http://127.0.0.1:5000", address)
    page.goto(f"{experiment}?workflowType=machine_learning")
    page.get_by_role("link", name="s", exact=True).click()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("leaderboard.html").first.click()
    frame = page.frame_locator("iframe").first
    assert frame.get_by_role("heading").inner_text() == "The leaderboard of s"
    page.screenshot(path=tracked[0] / "artifact.png")
