"""One loopback port that plays the Internet: proxy, TLS, HTTP and WebSocket."""
