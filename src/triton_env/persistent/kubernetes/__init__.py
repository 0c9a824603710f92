"""Persistent services as StatefulSets of a cluster, whose data is in claims."""
