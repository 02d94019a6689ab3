"""Rows in: what a frontend inserted becomes work.

claimer    takes rows, no more than there is room for
executor   one row: parse, do, finish; behind a barrier
payloads   the types of commands, parsed
sending    commands that become messages, as orders
asking     commands that ask WhatsApp for something else
profiles   `refresh_profile`
history    `sync_history`
governor   how patient a retry is, and typing before a send
ports      what all of them need of the rest of the bridge
"""
