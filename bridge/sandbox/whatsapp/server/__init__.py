"""The chat server: accounts, connections, linking, routing, and answers to requests.

chat         the server as a whole: which part handles which stanza
session      one client's connection after the handshake
directory    who exists
records      what is kept about accounts, devices and groups
linking      a companion is linked, and unlinked
routing      from one device to others
post_office  what a device must get until it has acknowledged it
requests/    answers to ``<iq>``
groups       groups
app_state    encrypted collections that devices share
pictures     of people and groups
calls        they ring, and they end
blocklists   whom people block
media_host   encrypted files
faults       faults that somebody asked for
"""
