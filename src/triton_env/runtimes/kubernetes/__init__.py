"""The Kubernetes runtime: services as pods of a cluster, reached through forwarded ports. It uses `kubectl`."""
