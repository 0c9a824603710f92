"""S3: buckets with their configuration, and every version of every object, over the API.

What the API cannot set is lost: version ids, dates, and the ETags of objects that are uploaded in another number of
parts than before.
"""
