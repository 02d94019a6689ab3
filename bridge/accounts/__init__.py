"""Who runs where: leases, the supervisor, and the life of one account.

leases      what the database says is ours, asked every few seconds
supervisor  wanted against running; one task an account, with a crash barrier
account     one account: what it is to do now, and the requests of commands
session     one session of it, from opening to the last saved byte
lifecycle   the state machine, as a table
face        `integration_accounts`, as frontends see it
saver       the sealed copy of the session's state
ledger      sends without an outcome
"""
