"""The S3 server: moto's, as a process of its own, behind a door that checks who asks.

It keeps objects in memory, so it has no data directory. What moto answers differently from LocalStack is in the
table of differences in the documentation.
"""
