"""What the facts mean: pure functions from events to rows, and the declarations that rows are made of."""
