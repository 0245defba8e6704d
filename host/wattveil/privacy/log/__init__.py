"""The log nobody can rewrite: RFC 6962's Merkle tree over every access, decision and release."""

from wattveil.privacy.log.heads import Head, LogError
from wattveil.privacy.log.log import Log

__all__ = ["Head", "Log", "LogError"]
