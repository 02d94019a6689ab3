"""The fault suite: a steady flow both ways, one fault after the other, and an account of each text.

`plan` says when which fault comes, from a seed; `traffic` writes; `ledger` knows what was written
and compares it with what arrived; `injector` has one function a fault; `report` prints the table.
`world` is everything that runs. `python -m tests.faults --help` has the options.
"""
