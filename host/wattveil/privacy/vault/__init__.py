"""The vault: readings sealed per meter and day, identities apart, pseudonyms that change."""
