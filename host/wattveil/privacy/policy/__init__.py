"""What the rules permit: Cedar rules, and the one function that asks them."""

from wattveil.privacy.policy.engine import Decision, Policy

__all__ = ["Decision", "Policy"]
