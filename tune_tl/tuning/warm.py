"""What a trial needs, imported by Ray's workers as they start, while the driver is still at other things.

Named in RAY_preload_python_modules (see tuning/__init__): importing it is what it is for. A trial finds
done, or half done, what would take four seconds of its core.
"""

from __future__ import annotations

import threading


def _libraries() -> None:
    import torch

    import tune_tl.training.trainer  # noqa: F401

    # Used by the optimiser's first step, and by torchvision.
    import torch._dynamo  # noqa: F401  # isort: skip
    import timm  # noqa: F401
    import torchvision  # noqa: F401


# In a thread: Ray gives a worker no trial before the modules are imported that it was told to preload,
# and starts a second worker instead. Nothing of Ray in here: the worker imports that itself meanwhile,
# and two threads must not import one library side by side.
_loading = threading.Thread(target=_libraries, name="imports", daemon=True)
_loading.start()


def ready() -> None:
    """Return once everything is imported; to be called before anything of torch is."""
    _loading.join()
