//! Remote-command and port-forward protocols: SPDY/3.1 and WebSocket channels.
