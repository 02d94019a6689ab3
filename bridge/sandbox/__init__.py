"""Everything on one bare machine: a Supabase project, a simulated WhatsApp, the bridge.

    stack        a Supabase project: PostgreSQL, REST, Auth, Storage, Realtime behind one port
    whatsapp/    a WhatsApp server that the unmodified engine connects to
    run          both, with the bridge and demo users: `wabridge sandbox`

Imported by the command line and by tests only.
"""
