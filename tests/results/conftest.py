from support.searches import search, trial

__all__ = ["search", "trial"]
