"""Isolation in milliseconds: namespaces, templates, snapshots and reset, the same on every runtime."""
