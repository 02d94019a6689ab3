"""The two encodings of the wire: protobuf for what is inside, binary XML for stanzas."""
