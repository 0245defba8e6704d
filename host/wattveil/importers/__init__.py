"""Load data for wattveil: files of real readings, and generated households."""
