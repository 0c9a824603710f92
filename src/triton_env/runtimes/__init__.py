"""Where services run: a runtime executes recipes and hands back placements."""
