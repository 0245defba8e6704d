"""Attack programs: the attackers' arithmetic only; ciphertexts, masks, frames and roles are the product's."""
