"""tune_tl beside the stock recipe and beside the compute limit, on one machine in one run: see run.py."""
