"""A world of hubs, nodes and spools in one process, in which everything that happens follows from a seed."""
