"""The dashboard: a page on 127.0.0.1 that shows what runs, and its metrics. Needs the extra `dashboard`."""
