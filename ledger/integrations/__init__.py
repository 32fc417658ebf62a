"""What a launcher, a crash handler, a blog workflow and a training wrapper call in one line."""
