"""Supabase Realtime as its clients see it: table changes, broadcast, presence, private channels.

    pgoutput       bytes of the replication stream → changes (pure)
    replication    the stream itself
    filters        `column=eq.value` → SQL
    permissions    what a role may see: rows, columns, private channels
    deliveries     a batch of changes → who gets what
    frames         both versions of the wire protocol (pure)
    channels       sockets, channels, presence
    server         the protocol's verbs

A change goes WAL → pgoutput → one SQL per batch and table, which casts the row to JSON and
evaluates every filter with PostgreSQL's own types → one SQL per role and claims, which asks
PostgreSQL, as that subscriber, which of the rows it can see.
"""
