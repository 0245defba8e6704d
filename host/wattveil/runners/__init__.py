"""What drives a role: `host` carries out effects, `process` and `memory` are the two ways to run."""
