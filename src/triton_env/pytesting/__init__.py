"""The parts of the pytest plugin. `triton_env.pytest_plugin` puts them together."""
