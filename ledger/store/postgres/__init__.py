"""A ledger on a PostgreSQL server: connections, transactions, schema, and what only a server needs."""
