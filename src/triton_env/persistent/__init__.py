"""The persistent services of a project: one stack behind the command line and `TritonEnvironment(persistent=True)`."""
