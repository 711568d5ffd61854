"""Finds the best way to transfer a pretrained network to a folder of labelled images."""

__version__ = "0.1.0"
