"""The doors: an API and three pages. Every operation is the gateway's own."""
