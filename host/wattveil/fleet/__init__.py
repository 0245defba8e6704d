"""Meters in number: the runtimes they run on, and their provisioning, roster and emulation."""
