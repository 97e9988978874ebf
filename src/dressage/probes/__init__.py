"""The shelf of probes: what must not get worse while the preference rate rises."""
