"""What processes of one user know of each other: locks, leases, and the registry of running environments."""
