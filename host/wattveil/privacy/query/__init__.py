"""Questions about a group, and answers that protect its members."""
