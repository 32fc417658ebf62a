"""A real little sweep on scikit-learn's digits, recorded as a team would record its own."""
