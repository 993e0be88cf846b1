//! The control socket: JSON messages, each ended by a NUL byte (varlink's framing).
