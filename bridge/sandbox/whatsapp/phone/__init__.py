"""A simulated WhatsApp user: the primary phone, with real end-to-end encryption.

phone      device 0 of an account
state      what it remembers
receiving  what it does with the stanzas it gets
inbox      what it got, for the control API
content    what is inside a message
kinds      messages that are neither text nor a file
history    earlier conversations for a new companion
link_code  linking by an 8-letter code
"""
