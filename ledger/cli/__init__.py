"""The command line: words, tables and exit codes over the functions of `Ledger`."""
