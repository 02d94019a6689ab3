"""The part of Supabase Auth that password logins need.

accounts   users, sessions and refresh tokens in the `auth` schema
passwords  how a password is kept
server     HTTP
"""
