"""Persistent services on a Docker engine: Compose, the containers and the volumes of a project."""
