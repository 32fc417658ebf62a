"""Where facts and rows lie: the only package that speaks SQL."""
