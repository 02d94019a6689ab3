"""WhatsApp, in child processes. The parent uses `host` and never imports neonize.

In the parent:

    host         owns the engine processes, and the sessions in them
    files        what is on this host's disks of its accounts
    fleet        which account goes into which process, and which process is replaced
    process      one process: start, talk, watch, end
    quarantine   which account it is that kills its engine
    session      the parent's end of one account's session
    replica      copies of the session file: a base, and the pages that changed
    backlog      how much waits in the journals of this host
    strict       what strict mode needs here: the three below
    checkpoint   the session file as it may be gone back to
    committer    makes checkpoints when the engine asks
    relay        a proxy that sees which bytes have left

Between the two:

    frames       the protocol

In an engine process, one account:

    child          main loop of the process
    wire           its way to the parent
    child_session  the engine's end of a session: journal, pump, requests, lease
    plan           how it connects, and where its news go
    connection     the life of one connection: start, pair, connect, end
    gate           keeps threads from touching neonize's global maps at once
    endings        how sessions end, from what neonize says
    whatsapp/      neonize, in our words: its only importer

    reception      what comes: into the journal, or as a signal
    translate      neonize's events in the words of `bridge.events`
    news           the same for groups and calls
    spool          the sealed journal
    segments       what of it is on the disk

    sender         one message after another, journaling outcomes
    dispatch       how one message leaves
    spelling       numbers that people write in another way than WhatsApp does
    turns          sends and decryptions take turns
    outcome        what an error of a send means
    settled        what became of sends that a killed engine had begun

    asking         everything else that is asked of the library
    downloads      the file of a received message, piece by piece
    upstream       a large file on its way out
    pictures       what a person or group looks like

    histories      histories of one session: kept as they come, given out in parts
    history        the store behind it
    blob           a history cut into parts without parsing it as a whole
    past           a part of it in the words of `bridge.events`

    barrier        strict mode: holds back what goes until it cannot be lost
    stanzas        what the library's log shows of what comes and goes
    arrivals       which messages are not in the journal yet
    questions      asks the parent for checkpoints
"""
