"""What runs in the workshop's processes; the parent never imports it."""
