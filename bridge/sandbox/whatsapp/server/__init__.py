"""The chat server: accounts, connections, linking, routing, and answers to requests."""
