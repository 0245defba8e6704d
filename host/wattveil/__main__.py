"""`python -m wattveil` is the `wattveil` command."""

import sys

from wattveil.cli import main

sys.exit(main())
