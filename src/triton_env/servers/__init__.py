"""Programs that the embedded runtime runs as processes. They import nothing else of triton-env."""
