"""Live pages: what the bench does, now, for people who stand around it."""
