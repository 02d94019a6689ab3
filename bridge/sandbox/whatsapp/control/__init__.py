"""The control API: HTTP and JSON, for people and tests that play the phones."""
