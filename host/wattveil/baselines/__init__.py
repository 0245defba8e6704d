"""The schemes the paper compares itself with, built to be measured beside it; none is for use.

Neither Engel 2013 nor Shi et al. 2015 could be had in full. `wav` and `dg_aped` are therefore a
"WAV-like" and a "DG-APED-like" scheme: each module says what its source is known to do and what
was chosen. `yan_plain` is the paper's own scheme by plain powers, so that three sets of formulas
meet on equal terms, without our tables, frames, masks and checks.
"""
