"""Turns itself into another program that dies with the process that started it.

Run as a script, never imported: ``python -I -S child.py PARENT_PID SIGNAL UID PROGRAM ARGUMENT…``.
The kernel sends SIGNAL when the thread that started this one ends, also after `kill -9` of the
parent, so a sandbox leaves nothing behind. A UID of -1 keeps the user; PostgreSQL refuses root.

Elsewhere than on Linux there is no such signal, and the program just runs.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Drop to the user, ask for the signal, become the program."""
    parent, signal_number, uid = (int(word) for word in arguments[:3])
    command = arguments[3:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    if sys.platform == "linux":
        # after setuid, which clears it; exec keeps it
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the request
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - that is its job


if __name__ == "__main__":
    main(sys.argv[1:])
