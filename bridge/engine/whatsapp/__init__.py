"""neonize, in our words: nothing outside this package imports it. Runs in engine processes only.

client    one entry of the library: connect, hear, ask
compose   outgoing orders → protobufs
requests  questions and changes that are no messages
uploads   files on their way out; file_messages, what is said of them
address   JIDs between the two worlds
"""
