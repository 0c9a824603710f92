"""PostgreSQL: all that triton-env knows about it.

`service` describes the server and makes clients. `isolation` gives tests databases and roles of their own. `backup` and
`restore` save roles as data and each database as an archive of pg_dump: these archives are logical, so a newer server
reads those of an older one. A restore loads each database under another name, then renames all of them in one
transaction.
"""
