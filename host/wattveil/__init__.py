"""wattveil on the host: cloud, control centre and dealer, and the fleets of meters they serve."""

from wattveil_meter import VERSION

__version__ = VERSION
