"""Real server processes without Docker."""
