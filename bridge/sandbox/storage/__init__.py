"""The part of Supabase Storage that the clients' file API uses.

objects   rows of `storage.objects` under the caller's policies; bytes in a folder
server    HTTP
"""
