"""Load sensors. Each has `energy(start, length)`: whole Wh in that interval, None if it is missing."""
