"""What an environment is for its user: one object a mode, which the rest of the code asks instead of deciding again."""
