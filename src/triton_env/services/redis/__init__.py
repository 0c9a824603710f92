"""Redis: all that triton-env knows about it.

`service` describes the server, `clients` makes clients. `isolation` gives tests logical databases of their own.
`backup` and `restore` save every key with its type, value and expiry as records, which any server of the protocol
takes.
"""
