"""Links of the host to its meters: the only code that does input and output with them."""


class LinkDown(Exception):
    """The other end is gone or cannot be reached (an unplugged cable); the message says which."""
