"""Users, roles, grants, row policies and settings profiles that SQL makes.

The engine has a storage for them that is read once, when it is opened, and closing it loses what only its memory has:
temporary tables, the rows of `Memory`, running queries. So this server keeps them itself, and uses the engine to parse:
`formatQuerySingleLine` gives each statement one form, `EXPLAIN AST` what it names, `system.privileges` the tree of
privileges. Nothing here is loaded before a statement needs it.
"""
