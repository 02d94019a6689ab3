"""The part of PostgREST that the Supabase clients use.

It works as PostgREST does: one request is one transaction under the caller's role; values reach
PostgreSQL as untyped literals or through `json_to_recordset`, so that PostgreSQL alone decides what
they mean; JSON comes out of PostgreSQL. What it does not know it refuses.

    grammar     query strings → conditions, selections (pure)
    schema      what tables, functions and relationships there are
    render      those → SQL
    statements  the one statement that answers a request
    requests    headers and preferences of one request
    errors      as PostgREST words them
    server      HTTP
"""
