"""Where facts and rows lie: files, processes, threads, and who tampers with them."""
