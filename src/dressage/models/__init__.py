"""The shelf of models: who writes, reads labels, embeds."""
