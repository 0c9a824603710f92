"""The process that keeps a shared environment: it owns the servers, and ends them when nobody uses them any more."""
