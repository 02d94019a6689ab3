"""The composition root of `wabridge run`, and what stands beside it.

run       nests the lifetimes of all parts, owns the signals and the stop order
parts     every part, given what it needs of the others
start     what must be right before anything starts
disk      what a host keeps on its disk
load      what it carries, and trouble with the disk, for the heartbeat
doctor    `wabridge doctor`
rotation  `wabridge keys rotate`
"""

from bridge.service.run import serve

__all__ = ["serve"]
