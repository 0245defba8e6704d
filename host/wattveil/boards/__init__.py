"""Real boards: what they are (`schema`), and how they become and stay meters, by cable."""
