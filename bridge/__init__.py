"""wabridge: a WhatsApp bridge whose API is a database.

The packages are named after the way a message takes through them:

    commands/   rows in: what a frontend inserted becomes work
    accounts/   who runs where: leases, the life of one account
    engine/     WhatsApp, in child processes
    normalise/  a raw event becomes rows (pure)
    ingest      rows out, in batches
    media/      files, in and out
    heartbeat   presence of this host
    service/    builds all of it, and stops it in order
    supabase/   the one place that knows Supabase
    vault       the one place that seals bytes
    config      the one reader of the environment
    log         what a line of the log looks like
    events, orders, states, ids, errors, bell
                words that everything shares
    sandbox/    all of it on one bare machine, with a simulated WhatsApp
    cli         `wabridge`: parse, call, exit code

``docs/architecture.md`` has the picture.
"""

__version__ = "0.1.0"
