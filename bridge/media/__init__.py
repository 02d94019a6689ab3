"""Media: bytes that came from strangers, made safe to store and to send.

Nothing here knows Supabase or WhatsApp's engine, and no decoder of images, audio or video is ever
loaded into this process:

    limits      how large a file of each kind may be
    names       file names and storage paths that play no tricks
    mime        what a type is called, and which extension it has
    addresses   which addresses belong to the public internet
    hosts       whom a `media_url` may make the bridge ask
    sink        a file written piece by piece, hashed on the way
    fetch       a `media_url` becomes a file on disk
    probe       what a file is: type, size in pixels, duration, thumbnail
    voice       any audio becomes a voice note
    attempts    what follows when a file or picture of WhatsApp's could not be fetched
    workshop    the child processes that `probe` and `voice` work in
    jobs        what goes to those processes and comes back
    child/      what runs in them: the only importer of Pillow, PyAV and libmagic
"""
