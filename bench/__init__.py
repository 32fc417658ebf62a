"""Speed, as ratios to the floor: the bare driver doing the same work with the same durability in the same run."""
