"""The two encodings of the wire: protobuf for what is inside, binary XML for stanzas.

protobuf  protobuf without schemas
nodes     addresses and stanzas, as values
binary    stanzas as bytes
tokens    the dictionary of that, read out of the installed engine
"""
