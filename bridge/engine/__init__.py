"""WhatsApp, in child processes: the parent uses `host` and `replica`, and never imports neonize."""
