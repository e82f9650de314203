"""The ledger database's schema, one Alembic revision per version; `sql_schema` runs them when a database is opened.

A revision is written once, in operations of its own that name no table object of `sql_tables`, because those move on.
It must work on SQLite and on PostgreSQL, inside the one transaction that the opening holds. The next change is a file
`rNNNN_what.py` here, the same change in the tables, and `sql_schema.HEAD`; a test holds the three together.
"""
