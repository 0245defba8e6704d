"""`wattveil figures`: the paper's evaluation (section 6) done again on this machine."""
