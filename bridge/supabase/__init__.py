"""The only place that knows Supabase: HTTP to its REST gateway, one method a function, a doorbell.

Nothing here decides what to do about a fault; it says which fault it is. Waiting for Supabase to
come back is `patience`, and the callers choose it.
"""
