"""The demo: every role and a whole fleet on one machine, with each role's store and keys apart."""
