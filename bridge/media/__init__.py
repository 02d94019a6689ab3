"""Media: bytes that came from strangers, made safe to store and to send.

No decoder of images, audio or video is ever loaded into this process:

    incoming    files of received messages, from WhatsApp into the bucket
    avatars     the same for pictures of people and groups
    old_pictures  pictures that nothing shows any more are deleted
    attempts    what follows when one of those could not be fetched
    outgoing    files that a `send` names, made ready for WhatsApp
    stickers    any picture becomes a sticker
    previews    what a link's page says of itself
    limits      how large a file of each kind may be
    names       file names and storage paths that play no tricks
    mime        what a type is called, and which extension it has
    addresses   which addresses belong to the public internet
    hosts       whom a `media_url` may make the bridge ask
    sink        a file written piece by piece, hashed on the way
    storing     scratch files, and the bucket that has each bytes once
    fetch       a `media_url` becomes a file on disk
    probe       what a file is: type, size in pixels, duration, thumbnail
    voice       any audio becomes a voice note
    workshop    the child processes that `probe` and `voice` work in
    jobs        what goes to those processes and comes back
    child/      what runs in them: the only importer of Pillow, PyAV and libmagic
"""
