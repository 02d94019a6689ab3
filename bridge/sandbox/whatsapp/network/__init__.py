"""One loopback port that plays the Internet: proxy, TLS, HTTP and WebSocket.

listener   the ports that clients reach
http       as much of it as a proxy, a media host and an upgrade need
websocket  one connection as a stream of frames
anchors    what a client must trust
"""
