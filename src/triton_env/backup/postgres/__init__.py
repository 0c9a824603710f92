"""PostgreSQL: roles as data, each database as an archive of pg_dump.

The archives are logical: a newer server reads those of an older one. A restore loads each database under another name
and then renames all of them in one transaction.
"""
