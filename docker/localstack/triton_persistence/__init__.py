"""A write-through S3 provider for LocalStack 4.14.0 community: what was acknowledged survives a restart.

LocalStack loads it by the entry point `s3:persisted` when this folder's parent is on PYTHONPATH and
`PROVIDER_OVERRIDE_S3=persisted`. It runs inside the container, on the standard library and LocalStack alone.

On the volume, under `/var/lib/localstack/s3`:

    meta.db             SQLite, WAL mode
        manifest        name, value: `format` (this layout, see FORMAT) and `localstack` (the version that wrote it)
        buckets         a row per bucket: account, region, and a JSON record with its configuration and tags
        objects         a row per version or delete marker, in LocalStack's order; `body` names its file
        uploads, parts  open multipart uploads
    data/<xx>/<id>      bodies; a file is written once, never changed, and belongs to one row
    reserve             room that is given to deletions when the disk is full
    lock                held (flock) by the running server

Another program may read `meta.db` at any time, also while the server runs. Both facts of the manifest are in the main
file from the start, so that `file:meta.db?mode=ro&immutable=1` is enough to read them from a read-only mount.

Each operation that changes something goes through the same steps: body file, SQLite commit, response. If it cannot be
saved, the client gets an error (507 `InsufficientStorage` when the disk is full, else 500 `InternalError`) and the
memory goes back to what the database holds. A killed process (SIGKILL) loses nothing that was acknowledged.

A body is on the disk (fsync) before its commit, a commit only with the kernel (`synchronous=NORMAL`). So a power loss,
or the end of the machine that the engine runs in, can lose the writes of the last half minute or so, but should leave
nothing torn. That was not tried. Bodies that are missing or short are told in the log at the start, and a GET of one is
answered with 500.

Refused at the start, with a message, the container's end (exit code 1) and untouched data: data of another LocalStack
version or format, a volume that another server uses, a damaged database, bodies without a database, a LocalStack whose
classes are not those of 4.14.0. Bodies that no row names (a write that was cut off) are removed at the start; replaced
bodies go a few seconds after the change, so that a reader that was about to open one still can.

Not kept:
- what other services hold: KMS keys (a key's id stays on the object, and the managed key for `aws:kms` is made anew),
  and the targets of notifications (the configuration stays, the queue or topic does not);
- SSE-C: LocalStack stores such bodies unencrypted, and so does this; only the hash of the key is kept;
- notifications that were on their way.

Between an operation's change in memory and its commit, another client may read the new state. If the commit then fails,
that reader saw something that does not last.
"""

FORMAT = "1"
LOCALSTACK = "4.14.0"
"""The version whose classes this package reads and builds."""
