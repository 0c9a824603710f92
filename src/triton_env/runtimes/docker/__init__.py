"""The Docker runtime: the engine, containers on a network of their own, and their removal whatever ends their owner."""
