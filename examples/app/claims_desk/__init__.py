"""A small service for a claims desk: clients, claims, jobs and documents."""
