"""S3: all that triton-env knows about it.

`service` describes the server and makes clients. `isolation` gives tests buckets of their own. `backup` and `restore`
save buckets with their configuration, and every version of every object, over the API. What the API cannot set is lost:
version ids, dates, and the ETags of objects that are uploaded in another number of parts than before.
"""
