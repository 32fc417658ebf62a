"""What many runs come to: pure computations over plain values, with the standard library alone at import."""
