"""Random runs, random questions, and what each of them answers: databases, and plain Python over the folded runs."""
