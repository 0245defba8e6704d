"""Anonymised exports, and the attack that measures what they are worth."""
