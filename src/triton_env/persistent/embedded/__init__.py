"""Persistent services without Docker: processes under a supervisor, and a folder that keeps their data."""
