"""Redis: every key with its type, value and expiry as records, which any server of the protocol takes."""
