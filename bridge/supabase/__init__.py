"""The only place that knows Supabase: HTTP to its REST gateway, one method a function, a doorbell.

client    HTTP, and which fault an answer means
breaker   while Supabase is away, one request at a time asks whether it is back
patience  how long to wait before the next attempt
rpc       one typed method a SQL function
answers   what those answer, parsed
batches   how much goes into one call
doorbell  Realtime, as a hint
storage   the bucket, piece by piece

Nothing here decides what to do about a fault; it says which fault it is. Waiting for Supabase to
come back is `patience`, and the callers choose it.
"""
