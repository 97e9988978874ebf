"""The shelf of sources: where rows come from."""
