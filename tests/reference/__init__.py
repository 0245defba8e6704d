"""A second wattveil, written from docs/PROTOCOL.md alone: plain, slow, and for checking only.

Nothing here imports wattveil or wattveil_meter. `vectors` makes docs/vectors/*.json from it; the
project's own code must then give the same bytes, and refuse what this one refuses.
"""
