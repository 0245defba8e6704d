"""Links of a meter to its cloud. Each has `read(wait_ms)`: whole frames so far, `write(frame)`, `closed`."""
