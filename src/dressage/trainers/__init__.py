"""The shelf of trainers: what learns from labels."""
