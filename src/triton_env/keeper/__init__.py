"""The process that keeps a shared environment: it owns the servers, and ends them when they are no longer used."""
