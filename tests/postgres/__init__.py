"""A real PostgreSQL for the tests: its server, its databases, and how the processes of one session share them."""
