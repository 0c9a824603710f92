"""What agents see of environments and do to them: the tools of `python -m triton_env mcp`."""
