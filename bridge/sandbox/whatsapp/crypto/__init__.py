"""The cryptography of the protocol, each piece without knowledge of sockets or accounts.

curve            Curve25519: Diffie-Hellman, and signatures with the same keys
ciphers          HKDF, AES-CBC and HMAC
noise            the handshake
device_identity  how a phone vouches for a companion
ratchet          one session between two devices
sender_keys      one encryption for a whole group
signal_store     what a device remembers for both
media_cipher     files
"""
