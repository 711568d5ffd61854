"""The leaderboard inside MLflow's own pages: a shared view of its run table, one a search.

By itself MLflow opens an experiment at an overview of chat traces, shows no metric column, and where a
table is sorted by a metric it no longer nests, so that parents stand among trials. A shared view is an
experiment's tag with the table's whole state; the page is opened by the key in its address.
"""

from __future__ import annotations

import json
import re

_TAG = "mlflow.sharedViewState."
_LOCAL = "http://127.0.0.1:5000"  # where `mlflow ui` listens unless told otherwise


def leaderboard_view(key: str, rows: str, sort_by: str, columns: list[str]) -> tuple[str, str]:
    """The experiment's tag, name and value, that shows the runs that the filter `rows` selects.

    `sort_by` and `columns` are written as MLflow does: metrics.`val_f1`. Highest first.
    """
    state = {
        "searchFilter": rows,
        "orderByKey": sort_by,
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        # The page takes the state as it stands and fills nothing in: these are its own defaults.
        "columnOrder": [],
        "columnWidths": {},
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }
    return _TAG + key, json.dumps(state)


def leaderboard_page(uri: str, experiment_id: str, key: str) -> str:
    """The address of the view: on the server at `uri`, or on a `mlflow ui` started over a database."""
    server = (
        re.sub(r"://[^/@]+@", "://", uri).rstrip("/") if uri.startswith(("http://", "https://")) else _LOCAL
    )
    query = f"workflowType=machine_learning&viewStateShareKey={key}"
    return f"{server}/#/experiments/{experiment_id}/runs?{query}"
