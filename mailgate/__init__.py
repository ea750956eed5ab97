"""A mail gateway that never takes a message it cannot hand on."""
