"""Everything on one bare machine: a Supabase project, a simulated WhatsApp, the bridge.

    command      the words of `wabridge sandbox`
    run          all of it, with the bridge and demo users
    demo         the two people of the demo

    stack        a Supabase project: PostgreSQL and the servers below, behind one port
    postgres     the database server, as our child
    database     makes it look like a fresh hosted project, and applies migrations
    pool         a few connections to it
    keys         API keys and tokens
    gateway      one origin for all of it
    auth/        Supabase Auth
    rest/        PostgREST
    storage/     Supabase Storage
    realtime/    Supabase Realtime
    faults       what a hosted project does on a bad day, for tests

    whatsapp/    a WhatsApp server that the unmodified engine connects to
    engine       an engine process that trusts it
    trust        the only place that replaces whom the engine trusts

    children     child processes, ended in time
    child        turns itself into another program that dies with us
    errors       what can go wrong, in one sentence

Imported by the command line and by tests only.
"""
