"""What a person runs beside the roles: the ledger's accounts, back-ups, the state of a fleet."""
