"""The file of a backup: its format, its manifest, and the checks that reading one takes.

It knows no service and no environment.
"""
