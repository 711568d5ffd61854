"""All of Ray. Its settings are made here, since it reads some of them when it is imported."""

import os
import sys
import warnings

if "ray" not in sys.modules:  # its client has read this by then, its servers would read it later
    os.environ.setdefault("RAY_AUTH_MODE", "token")
# No reports to its makers, no writing of its own event files.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ctrl+C is the search's: Ray would end early as if all were done.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
# A trial stopped in mid-epoch is not waited for: its last acknowledged epoch is what counts.
os.environ.setdefault("TUNE_FORCE_TRIAL_CLEANUP_S", "1")
# Workers import torch and the like as they start, and not when their first trial does. There is one for
# each core, and on a large machine most would load it for nothing.
if (os.cpu_count() or 1) <= 32:
    os.environ.setdefault("RAY_preload_python_modules", "tune_tl.tuning.warm")
# A trial whose loss is no number any more says so in place of its metrics.
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
# A worker whose last trial needs long to leave it is waited for: Tune would lose the next trial, in silence.
os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "300")
# Ray would have its workers yield to everybody (niceness 15): beside another job a search got a thirtieth of
# a core, and its budget went by. Whoever wants that starts it with `nice`.
os.environ.setdefault("RAY_worker_niceness", "0")
# Of Ray's helpers, which a machine that is busy may take long to start.
os.environ.setdefault("RAY_agent_register_timeout_ms", "180000")
# The ledger is what a search is resumed from. Tune's own snapshot costs more with every trial that it has.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "inf")
# Ray imports requests in a thread, and requests a module that warns of a proxy library nobody needs. The
# filter that requests sets against it is lost where another thread leaves `warnings.catch_warnings` then,
# and the warning would stand in the middle of the display. Set here, it is there before any thread starts.
warnings.filterwarnings("ignore", message="SOCKS support in urllib3")
