"""What a role must not forget: a small durable key-value table, one file and one process each."""

from wattveil.store.sqlite import Store, StoreError, read_only

__all__ = ["Store", "StoreError", "read_only"]
