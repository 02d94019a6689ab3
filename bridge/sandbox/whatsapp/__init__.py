"""A WhatsApp server on one machine, for the unmodified engine and for anybody's own client.

Simulated, strictly enough for a client that nobody here wrote:

* transport: HTTP CONNECT proxy or direct TLS, WebSocket, Noise XX with a certificate chain, binary
  XML; a broken signature, MAC, frame or stanza ends the connection;
* linking by QR code and by 8-letter code, up to four companions an account, unlinking from both
  sides; the companion's signatures are checked;
* Signal: prekeys handed out once, low-prekey notices, sessions by X3DH, sender keys, retry receipts
  both ways; device lists with change notices and participant hashes;
* addresses: everybody has a LID; direct messages are addressed by LID (or, by choice of a phone, by
  number) and carry the other address;
* messages of every kind of `docs/kinds.md`, direct and in groups; copies for own devices; receipts
  (delivered, read, played) to senders and own devices;
* calls that ring and end; presence, typing, blocking, about texts, pictures, app state (push name,
  contacts) in both directions, media upload and download, history sync after linking (and on demand
  of the control API);
* the mail of a device that is away, redelivery of what it did not acknowledge;
* faults: see `server.faults`. State on disk: see `state_file`.

Not simulated (requests are answered with error 501 and listed under ``unknown_requests`` of
GET /state): requests about newsletters and communities, media retry, privacy tokens and their
checks, history asked for by a companion, passkeys, pushes, hosted devices, rate limits.

Layers, each of which knows only those before it::

    codec → crypto → network → server → phone → simulator → control → __main__
    state_file          everything on disk, kept by __main__
    process, client     for the sandbox and for tests: they talk to it over HTTP only
"""
