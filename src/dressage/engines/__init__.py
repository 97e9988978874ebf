"""What serves every stage: sampling, asking, hearing, judging, preferring, failing."""
