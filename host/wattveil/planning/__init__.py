"""`wattveil plan`: what a fleet's totals will be worth, and cost, before anyone is enrolled."""
