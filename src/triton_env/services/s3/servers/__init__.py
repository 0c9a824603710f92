"""The servers that can be S3, each with its recipe for the runtimes that have it."""
