"""What the audit plays, one module a promise."""
