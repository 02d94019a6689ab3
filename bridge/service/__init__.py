"""The composition root of `wabridge run`, what it needs of the disk, and `wabridge doctor`."""

from bridge.service.run import serve

__all__ = ["serve"]
