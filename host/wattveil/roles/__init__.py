"""Cloud, control centre and dealer as state machines: an event in, effects out, no I/O.

Every role has `restore(load)` (once, with the store's `load`), `receive(peer, frame)`, `tick()`,
`resume(event)`, `linked(peer, up)` and `status()`. All but the last return effects, which a runner
carries out in order (`effects`). Clock and randomness are arguments.
"""
