"""What may leave the control centre, and what it costs: the noise's law, epsilon, the bounds."""
