"""A start as it happens: live on a terminal or in a notebook, a few plain lines on standard error elsewhere."""
