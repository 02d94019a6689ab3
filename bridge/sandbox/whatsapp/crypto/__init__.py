"""The cryptography of the protocol, each piece without knowledge of sockets or accounts."""
